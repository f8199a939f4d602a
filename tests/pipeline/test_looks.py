"""When two defenses are told apart, on samples made up at random."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from robustkit.pipeline.looks import Pairs, Verdict, look, settled, verdicts


def stopped(standing: dict[str, np.ndarray], points: float, block: int = 200) -> tuple[int, list[Verdict]]:
    """Blocks until the rule stops, or all of them; and what it says then."""
    limits: Pairs = {}
    count = len(next(iter(standing.values())))
    for used in range(block, count + 1, block):
        seen = {label: values[:used] for label, values in standing.items()}
        limits = look(seen, limits)
        found = verdicts(seen, limits, points)
        if settled(found):
            break
    return used, found


def test_what_differs_much_is_told_apart_at_once() -> None:
    rng = np.random.default_rng(0)
    standing = {"good": rng.random(4000) < 0.9, "bad": rng.random(4000) < 0.1}
    used, (verdict,) = stopped({label: values.astype(float) for label, values in standing.items()}, 1.0)
    assert used == 200
    assert verdict.apart
    assert (verdict.first, verdict.second) == ("good", "bad")
    assert verdict.high < -0.5


def test_what_is_the_same_goes_on_to_the_width_or_to_the_end() -> None:
    same = (np.random.default_rng(1).random(4000) < 0.5).astype(float)
    used, (verdict,) = stopped({"one": same, "other": same}, 1.0)
    assert 200 < used < 4000
    assert verdict.narrow
    assert not verdict.apart
    assert verdict.difference == 0
    used, (verdict,) = stopped({"one": same, "other": same}, 0.01)
    assert used == 4000
    assert not settled([verdict])


def test_every_pair_with_the_leader_counts_and_no_other() -> None:
    rng = np.random.default_rng(2)
    low = rng.random(2000) < 0.2
    standing = {"low": low, "low too": low ^ (rng.random(2000) < 0.1), "high": rng.random(2000) < 0.8}
    used, found = stopped({label: values.astype(float) for label, values in standing.items()}, 0.1)
    assert used == 200
    assert {(v.first, v.second) for v in found if v.leading} == {("low", "high"), ("low too", "high")}
    assert all(v.apart for v in found if v.leading)


def test_at_most_a_twentieth_of_benches_errs_when_it_stops() -> None:
    """Three models, of which two are alike: whether any of the three limits misses its difference at the stop."""
    rng = np.random.default_rng(3)
    wrong = runs = 0
    for gap in [0.0, 0.04] * 60:
        common = rng.random(1600)
        shares = {"a": 0.5, "b": 0.5, "c": 0.5 + gap}
        standing = {
            label: (np.where(rng.random(1600) < 0.3, rng.random(1600), common) < share).astype(float)
            for label, share in shares.items()
        }
        _, found = stopped(standing, 2.0)
        truth = {(v.first, v.second): shares[v.second] - shares[v.first] for v in found}
        wrong += any(not v.low <= truth[v.first, v.second] <= v.high for v in found)
        runs += 1
    assert beta.ppf(0.95, wrong + 1, runs - wrong) <= 0.05


def test_limits_of_a_look_hold_on() -> None:
    rng = np.random.default_rng(4)
    one, other = (rng.random(2000) < 0.5).astype(float), (rng.random(2000) < 0.5).astype(float)
    limits: Pairs = {}
    for used in range(200, 2001, 200):
        fresh = look({"one": one[:used], "other": other[:used]}, limits)
        if limits:
            assert fresh["one", "other"][0] >= limits["one", "other"][0]
            assert fresh["one", "other"][1] <= limits["one", "other"][1]
        limits = fresh
    broken = look({"one": one, "other": other}, {("one", "other"): (0.9, 1.0)})["one", "other"]
    assert broken == look({"one": one, "other": other}, {})["one", "other"]
