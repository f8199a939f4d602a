"""The order of work, without workers: what goes out, when, how often; and how long it takes against Graham's bound."""

from __future__ import annotations

import heapq
import random

import pytest

from robustkit.pipeline.schedule import TARGET, TRIES, Group, Lane, Schedule


def schedule(*lanes: Lane, workers: int = 2, found: dict[str, set[int]] | None = None) -> Schedule:
    def opened(lane: Lane) -> list[int]:
        return [number for number in range(lane.blocks) if number not in (found or {}).get(lane.key, set())]

    return Schedule(lanes, workers, opened)


def taken(made: Schedule) -> Group:
    group = made.take()
    assert isinstance(group, Group)
    return group


def test_dear_lanes_go_first_and_equal_ones_in_the_plans_order() -> None:
    made = schedule(Lane("a", 1, 1), Lane("b", 7, 1), Lane("c", 7, 1), Lane("d", 3, 1))
    assert [taken(made).lane.key for _ in range(4)] == ["b", "c", "d", "a"]
    assert made.take() is None


def test_a_lane_waits_for_those_it_needs() -> None:
    clean, attack = Lane("clean", 1, 1), Lane("attack", 9, 1, frozenset({"clean", "finished long ago"}))
    made = schedule(attack, clean)
    group = taken(made)
    assert group.lane is clean
    assert made.take() is None
    made.measured(group, 0.1)
    assert clean.finished
    made.settle(clean)
    assert taken(made).lane is attack


def test_blocks_that_were_found_do_not_go_out_again() -> None:
    made = schedule(Lane("a", 1, 4), Lane("b", 1, 2), found={"a": {0, 2}, "b": {0, 1}})
    assert [taken(made).numbers for _ in range(2)] == [(1,), (3,)]
    nothing = made.take()
    assert isinstance(nothing, Lane)
    assert nothing.key == "b"
    assert nothing.finished


def test_small_blocks_go_out_in_groups_of_about_the_target_and_leave_some_for_others() -> None:
    made = schedule(Lane("a", 1, 1000), workers=4)
    first = taken(made)
    assert len(first.numbers) == 1  # nobody knows yet how long one takes
    made.measured(first, TARGET / 20)
    sizes = []
    while isinstance(group := made.take(), Group):
        sizes.append(len(group.numbers))
        made.measured(group, len(group.numbers) * TARGET / 20)
    assert sum(sizes) == 999
    assert sizes[0] == 20
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


def test_what_lost_its_worker_goes_out_again_alone_and_three_times_at_most() -> None:
    lane = Lane("a", 1, 3)
    made = schedule(lane)
    made.measured(taken(made), 0.001)
    assert lane.todo is not None
    lane.todo.clear()
    lane.flying = 2
    assert made.lost(Group(lane, (1, 2))) is None  # two small ones that went out together
    assert not lane.finished
    alone = [taken(made), taken(made)]
    assert [group.numbers for group in alone] == [(1,), (2,)]
    made.measured(alone[0], 0.001)
    for attempt in range(2, TRIES + 1):
        assert made.lost(alone[1]) == (2 if attempt == TRIES else None)
        if attempt < TRIES:
            alone[1] = taken(made)
    assert lane.failed
    assert lane.finished
    assert made.take() is None


def test_after_an_error_nothing_more_of_a_lane_goes_out() -> None:
    lane = Lane("a", 2, 5)
    made = schedule(lane, Lane("b", 1, 1))
    one, other = taken(made), taken(made)
    made.fail(one)
    assert taken(made).lane.key == "b"
    assert not lane.finished  # one block is still under way
    made.measured(other, 0.1)
    assert lane.finished


@pytest.mark.parametrize("workers", [1, 3, 8, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_order_it_finds_is_worse_than_grahams_bound(workers: int, seed: int) -> None:
    """Any list schedule ends by total / N + (1 - 1 / N) longest (Graham 1966); none before max(total / N, longest)."""
    draw = random.Random(seed)
    lanes = [Lane(str(n), draw.uniform(1, 50), draw.randrange(1, 30)) for n in range(20)]
    work = {lane.key: [lane.cost * draw.uniform(0.9, 1.1) for _ in range(lane.blocks)] for lane in lanes}
    made = schedule(*lanes, workers=workers)
    free, back, end, longest, done = [0.0] * workers, [], 0.0, 0.0, 0
    while True:
        while free and isinstance(group := made.take(), Group):
            seconds = sum(work[group.lane.key][number] for number in group.numbers)
            longest = max(longest, seconds)
            heapq.heappush(back, (heapq.heappop(free) + seconds, done, group, seconds))
            done += len(group.numbers)
        if not back:
            break
        now, _, group, seconds = heapq.heappop(back)
        made.measured(group, seconds)
        heapq.heappush(free, now)
        end = max(end, now)
    total = sum(map(sum, work.values()))
    assert done == sum(map(len, work.values()))
    assert max(total / workers, longest) - 1e-9 <= end <= total / workers + (1 - 1 / workers) * longest + 1e-9


def test_the_time_left_follows_from_what_was_measured() -> None:
    made = schedule(Lane("a", 10, 2), Lane("b", 5, 4), workers=2)
    assert made.seconds_left() is None
    made.measured(taken(made), 3.0)
    # one more block of 3 s, and four of another lane that costs half as much
    assert made.seconds_left() == pytest.approx((3.0 + 4 * 1.5) / 2)
