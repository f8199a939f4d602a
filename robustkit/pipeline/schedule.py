"""Which blocks go out next: dear cells first, small blocks in groups, what lost its worker again and alone."""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

TARGET = 0.5
"""Seconds that a group of small blocks is meant to take: handing one out costs less than 2 % of that."""

UNKNOWN = 1e18
"""Cost of a lane whose cost nobody can tell: it may be the dearest."""

TRIES = 3
"""How many workers a block may cost before it counts as failed."""


@dataclass
class Lane:
    """The blocks of one cell.

    Args:
        key: of the cell.
        cost: of a block, in any unit; dear lanes go first.
        blocks: how many are still open, as far as that is known before the lane is opened.
        needs: keys of lanes that must be finished before.
    """

    key: str
    cost: float
    blocks: int
    needs: frozenset[str] = frozenset()
    todo: deque[int] | None = None  # None: not opened yet
    flying: int = 0
    again: int = 0  # that lost their worker and wait for another one
    failed: bool = False
    seconds: float = 0.0  # of the blocks measured
    measured: int = 0
    lost: Counter[int] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        """Blocks that are neither measured nor given up."""
        if self.failed:
            return self.flying
        return self.flying + self.again + (self.blocks if self.todo is None else len(self.todo))

    @property
    def finished(self) -> bool:
        return self.todo is not None and self.left == 0


@dataclass(frozen=True)
class Group:
    """Blocks of one lane that go to one worker together."""

    lane: Lane
    numbers: tuple[int, ...]


class Schedule:
    """What to hand out to `workers` workers.

    Longest processing time first (Graham 1969, https://doi.org/10.1137/0117039) in the order of lanes; inside a lane in
    order of blocks. A lane is opened when its turn comes, so that a plan of a million blocks costs nothing.

    Args:
        lanes: in the plan's order.
        workers: how many.
        opened: tells the open blocks of a lane, when its turn has come.
    """

    def __init__(self, lanes: Iterable[Lane], workers: int, opened: Callable[[Lane], Sequence[int]]) -> None:
        self.lanes = {lane.key: lane for lane in lanes}
        self._place = {key: place for place, key in enumerate(self.lanes)}
        self._workers = workers
        self._opened = opened
        self._ready: list[tuple[float, int, Lane]] = []
        self._again: deque[Group] = deque()
        self._waits: dict[str, set[str]] = {}
        self._wanted: dict[str, list[str]] = {}
        for lane in self.lanes.values():
            needs = {key for key in lane.needs if key in self.lanes}
            self._waits[lane.key] = needs
            for key in needs:
                self._wanted.setdefault(key, []).append(lane.key)
            if not needs:
                self._push(lane)

    def take(self) -> Group | Lane | None:
        """The next group; or a lane that turns out to have no open block; or None, for now."""
        while self._again:
            group = self._again.popleft()
            if not group.lane.failed:
                group.lane.again -= len(group.numbers)
                return self._out(group)
        while self._ready:
            lane = self._ready[0][2]
            if lane.todo is None:
                lane.todo = deque(self._opened(lane))
                lane.blocks = len(lane.todo)
                if not lane.todo:
                    heapq.heappop(self._ready)
                    return lane
            if lane.failed or not lane.todo:
                heapq.heappop(self._ready)
                continue
            return self._out(Group(lane, tuple(lane.todo.popleft() for _ in range(self._size(lane)))))
        return None

    def measured(self, group: Group, seconds: float) -> None:
        """A group has come back, whole."""
        group.lane.flying -= len(group.numbers)
        group.lane.measured += len(group.numbers)
        group.lane.seconds += seconds

    def lost(self, group: Group) -> int | None:
        """A group's worker is lost: its blocks go out again one by one. The number of a block that failed for good."""
        lane = group.lane
        lane.flying -= len(group.numbers)
        lane.lost.update(group.numbers)
        worst = next((number for number in group.numbers if lane.lost[number] >= TRIES), None)
        if worst is not None:
            lane.failed = True
        else:
            lane.again += len(group.numbers)
            self._again.extend(Group(lane, (number,)) for number in group.numbers)
        return worst

    def fail(self, group: Group) -> None:
        """A block of a group raised an error: nothing more of its lane goes out."""
        group.lane.flying -= len(group.numbers)
        group.lane.failed = True

    def settle(self, lane: Lane) -> None:
        """A lane is finished; those that waited for it may go."""
        for key in self._wanted.get(lane.key, ()):
            waits = self._waits[key]
            waits.discard(lane.key)
            if not waits:
                self._push(self.lanes[key])

    def seconds_left(self) -> float | None:
        """Of all workers together; None as long as nothing was measured. Lanes not begun count by their cost."""
        known = [lane for lane in self.lanes.values() if lane.measured and lane.seconds]
        if not known:
            return None
        finite = [lane for lane in known if 0 < lane.cost < UNKNOWN]
        spent = sum(lane.seconds / lane.measured for lane in finite)
        rate = spent / sum(lane.cost for lane in finite) if finite else 0.0
        usual = sum(lane.seconds for lane in known) / sum(lane.measured for lane in known)
        work = 0.0
        for lane in self.lanes.values():
            if not lane.left:
                continue
            guess = rate * lane.cost if rate and lane.cost < UNKNOWN else usual
            work += lane.left * (lane.seconds / lane.measured if lane.measured else guess)
        return work / self._workers

    def _out(self, group: Group) -> Group:
        group.lane.flying += len(group.numbers)
        return group

    def _push(self, lane: Lane) -> None:
        heapq.heappush(self._ready, (-lane.cost, self._place[lane.key], lane))

    def _size(self, lane: Lane) -> int:
        """Blocks that fill `TARGET` seconds, but leave some for the other workers."""
        assert lane.todo is not None
        if not lane.measured:
            return 1
        fitting = math.ceil(TARGET / max(lane.seconds / lane.measured, 1e-6))
        return max(1, min(fitting, len(lane.todo) // (2 * self._workers)))
