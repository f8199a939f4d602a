"""The planner of a budget: never what was done, never more than fits, the best first; in worlds made up at random."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.pipeline.budget import Field, Step, Trial, choose, forecast

MODELS = ("a", "b")
ATTACKS = ("quick", "slow", "dear")
BLOCKS = range(4)


@st.composite
def fields(draw: st.DrawFn) -> Field:
    """Any state that a run can be in, and some that it cannot."""
    places = [(model, block) for model in MODELS for block in BLOCKS]
    standing = {place: float(draw(st.integers(0, 200))) for place in places}
    pairs = draw(st.lists(st.sampled_from([(m, a) for m in MODELS for a in ATTACKS]), min_size=1, unique=True))
    guesses = {pair: draw(st.floats(1e-5, 1.0)) for pair in pairs}
    trials, seen = [], dict.fromkeys(places, frozenset[str]())
    for model, attack, block in draw(
        st.lists(st.tuples(st.sampled_from(MODELS), st.sampled_from(ATTACKS), st.sampled_from(BLOCKS)), unique=True)
    ):
        attacked = draw(st.integers(0, 200))
        trials.append(
            Trial(
                model=model,
                attack=attack,
                block=block,
                before=seen[model, block],
                attacked=attacked,
                fell=draw(st.integers(0, attacked)),
                seconds=draw(st.floats(0, 50)) if attacked else 0.0,
            )
        )
        seen[model, block] |= {attack}
    return Field(standing, guesses, tuple(trials))


@given(fields(), st.floats(0, 200))
@settings(max_examples=60, deadline=None)
def test_a_step_is_new_fits_and_is_the_best(field: Field, left: float) -> None:
    step = choose(field, left)
    possible = [
        field.step(model, attack, block, field.standing[model, block], field.before.get((model, block), frozenset()))
        for model, attack in field.guesses
        for block in BLOCKS
        if field.standing[model, block] > 0
        and not any((t.model, t.attack, t.block) == (model, attack, block) for t in field.trials)
    ]
    fitting = [each for each in possible if each.seconds <= left]
    if step is None:
        assert not fitting
        return
    assert step in fitting
    assert step.falls / step.seconds == max(each.falls / each.seconds for each in fitting)
    assert 0 < step.falls <= field.standing[step.model, step.block]
    assert step.seconds <= left


@given(fields(), st.floats(0, 100), st.floats(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_forecast_grows_with_time_and_never_beyond_what_stands(field: Field, one: float, other: float) -> None:
    less, more = (forecast(field, seconds) for seconds in sorted((one, other)))
    for model, falls in less.falls.items():
        standing = sum(count for (owner, _), count in field.standing.items() if owner == model)
        assert 0 <= falls <= more.falls[model] * (1 + 1e-9) + 1e-9
        assert more.falls[model] <= standing * (1 + 1e-9)
    assert sum(forecast(field, 0).falls.values()) == 0
    assert less.open == len(list(field.steps()))
    for model, names in less.untried.items():
        for name in names:
            assert not any(t.attacked for t in field.trials if (t.model, t.attack) == (model, name))


@given(fields())
@settings(max_examples=40, deadline=None)
def test_a_forecast_of_one_step_is_that_step(field: Field) -> None:
    """What `forecast` buys first is what `choose` takes, where all attacks were measured."""
    measured = {pair for pair, trials in field.by_pair.items() if any(trial.attacked for trial in trials)}
    known = Field(field.standing, {pair: g for pair, g in field.guesses.items() if pair in measured}, field.trials)
    step = choose(known, float("inf"))
    if step is None:
        assert sum(forecast(known, 1e9).falls.values()) == 0
    else:
        found = forecast(known, step.seconds)
        assert found.falls[step.model] == pytest.approx(step.falls)
        assert found.attacks[step.model] == (step.attack,)


def spent(
    rates: Mapping[str, float], prices: Mapping[str, float], budget: float, blocks: int = 4
) -> tuple[list[Step], dict[int, float], float]:
    """A run in a world in which an attack brings down the first samples of a block, a share of 200, at its price."""
    standing = {("m", block): 200.0 for block in range(blocks)}
    guesses = {("m", attack): 1e-3 for attack in prices}
    trials: list[Trial] = []
    steps: list[Step] = []
    clock = 0.0
    while True:
        step = choose(Field(standing, guesses, trials), budget - clock)
        if step is None:
            return steps, {block: count for (_, block), count in standing.items()}, clock
        place = ("m", step.block)
        before = Field(standing, guesses, trials).before.get(place, frozenset())
        fell = max(0, int(standing[place]) - round(200 * (1 - rates[step.attack])))
        seconds = prices[step.attack] * standing[place]
        trials.append(
            Trial(
                model="m",
                attack=step.attack,
                block=step.block,
                before=before,
                attacked=int(standing[place]),
                fell=fell,
                seconds=seconds,
            )
        )
        standing[place] -= fell
        clock += seconds
        steps.append(step)


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.floats(1e-4, 1), min_size=3, max_size=3),
    st.floats(0, 400),
)
@settings(max_examples=60, deadline=None)
def test_a_run_does_nothing_twice_and_ends_within_a_block(
    rates: list[float], prices: list[float], budget: float
) -> None:
    of_attack = dict(zip(ATTACKS, rates, strict=True)), dict(zip(ATTACKS, prices, strict=True))
    steps, standing, clock = spent(*of_attack, budget)
    assert len({(step.attack, step.block) for step in steps}) == len(steps)
    assert clock <= budget + 200 * max(prices) + 1e-9
    everything, least, _ = spent(*of_attack, float("inf"))
    assert all(count >= least[block] for block, count in standing.items())
    tried = {(step.attack, step.block) for step in everything}
    assert all(count == 0 or all((attack, block) in tried for attack in ATTACKS) for block, count in least.items())


def test_the_cheap_attack_comes_first_and_the_dear_one_sees_survivors() -> None:
    rates, prices = {"quick": 0.5, "slow": 0.85, "dear": 0.955}, {"quick": 1e-4, "slow": 1e-3, "dear": 1e-1}
    steps, standing, _ = spent(rates, prices, 1e9)
    names = [step.attack for step in steps]
    assert names[0] == "quick"
    assert max(i for i, name in enumerate(names) if name == "quick") < names.index("dear", names.index("dear") + 1)
    assert standing == dict.fromkeys(range(4), 9.0)  # 200 → 100 → 30 → 9


def test_a_useless_dear_attack_waits_until_the_cheap_ones_are_done() -> None:
    rates, prices = {"quick": 0.3, "slow": 0.6, "dear": 0.0}, {"quick": 1e-3, "slow": 1e-2, "dear": 2e-2}
    steps, _, clock = spent(rates, prices, 8.5)
    names = [step.attack for step in steps]
    assert sorted(names[:8]) == ["quick"] * 4 + ["slow"] * 4
    assert names[8:] == ["dear"]
    assert clock <= 8.5


def test_shares_come_from_the_closest_company() -> None:
    def trial(block: int, before: tuple[str, ...], attacked: int, fell: int) -> Trial:
        return Trial(
            model="m",
            attack="slow",
            block=block,
            before=frozenset(before),
            attacked=attacked,
            fell=fell,
            seconds=attacked * 0.1,
        )

    field = Field({("m", 3): 10.0}, {("m", "slow"): 1.0}, [trial(0, (), 98, 49), trial(1, ("quick",), 198, 1)])
    assert field.share("m", "slow", frozenset()) == pytest.approx(50 / 100)
    assert field.share("m", "slow", frozenset({"quick"})) == pytest.approx(2 / 200)
    assert field.share("m", "slow", frozenset({"quick", "dear"})) == pytest.approx((50 + 1 + 1 - 1) / (296 + 2))
    assert field.share("m", "dear", frozenset()) == 0.1


def test_seconds_follow_a_line_where_samples_differ() -> None:
    def trial(block: int, attacked: int, seconds: float) -> Trial:
        return Trial(
            model="m", attack="slow", block=block, before=frozenset(), attacked=attacked, fell=0, seconds=seconds
        )

    guesses = {("m", "quick"): 0.01, ("m", "slow"): 0.02}
    one = Field({}, guesses, [trial(0, 200, 8.0)])
    assert one.seconds("m", "slow", 200) == pytest.approx(8.0)
    assert one.seconds("m", "slow", 90) == pytest.approx(8.0 * 110 / 220)  # a call costs as much as 20 samples more
    assert one.seconds("m", "quick", 200) == pytest.approx(4.0)  # half of the other, as was guessed
    two = Field({}, guesses, [trial(0, 200, 8.0), trial(1, 100, 6.0)])
    assert two.seconds("m", "slow", 10) == pytest.approx(4.2)
    assert Field({}, guesses, []).seconds("m", "slow", 10) == pytest.approx(0.6)
