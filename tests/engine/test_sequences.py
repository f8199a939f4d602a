"""Confidence sequences by simulation, and against a sum written out and another method of the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from robustkit.engine.sequences import mean_limits
from robustkit.engine.statistics import paired_difference

LOOKS = tuple(range(200, 2001, 200))


def differences(rng: np.random.Generator, wins: float, losses: float, count: int) -> np.ndarray:
    return rng.choice([1.0, -1.0, 0.0], size=count, p=[wins, losses, 1 - wins - losses])


def test_the_true_mean_is_left_out_at_any_look_in_at_most_a_twentieth_of_runs() -> None:
    """Whoever stops when it suits gets no more errors; with the intervals of one look it would be over a tenth."""
    rng = np.random.default_rng(1)
    missed = naive = runs = 0
    for wins, losses in ((0.1, 0.1), (0.03, 0.01), (0.3, 0.1)):
        for _ in range(80):
            values, truth = differences(rng, wins, losses, LOOKS[-1]), wins - losses
            limits = [mean_limits(values[:count]) for count in LOOKS]
            missed += any(not low <= truth <= high for low, high in limits)
            plain = [
                paired_difference(int((v < 0).sum()), int((v > 0).sum()), len(v))
                for v in map(values.__getitem__, map(slice, LOOKS))
            ]
            naive += any(not low <= truth <= high for _, low, high in plain)
            runs += 1
    assert beta.ppf(0.95, missed + 1, runs - missed) <= 0.05  # Clopper & Pearson
    assert naive / runs > 0.1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_limits_are_where_the_wealth_reaches_its_goal(wins: int, losses: int, ties: int) -> None:
    """The wealth as the paper has it, bet by bet, just inside and just outside of the limits."""
    values = np.array([1.0] * wins + [-1.0] * losses + [0.0] * ties)
    low, high = mean_limits(values, 0.9)
    assert -1 <= low <= high <= 1
    if not len(values):
        assert (low, high) == (-1, 1)
        return
    assert low <= values.mean() <= high
    np.random.default_rng(0).shuffle(values)

    def wealth(mean: float, sign: int) -> float:
        grown = np.ones(48)
        for value in values:
            stake = np.geomspace(0.004, 0.996, 48) / (1 - sign * mean)  # lambda, below 1 / (1 - mean)
            grown = grown * (1 - sign * stake * (value - mean))
        return float(grown.mean())

    if high < 1:
        assert wealth(high + 1e-4, 1) > 20 > wealth(high - 1e-4, 1)
    if low > -1:
        assert wealth(low - 1e-4, -1) > 20 > wealth(low + 1e-4, -1)


def bernstein(values: np.ndarray, alpha: float = 0.05) -> tuple[float, float]:
    """The predictable plug-in empirical Bernstein sequence, Theorem 2 of Waudby-Smith & Ramdas 2024."""
    x = (values + 1) / 2
    steps = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (steps + 1)
    spread = (0.25 + np.cumsum((x - mean) ** 2)) / (steps + 1)
    mean_before, spread_before = np.append(0.5, mean[:-1]), np.append(0.25, spread[:-1])
    stake = np.minimum(0.5, np.sqrt(2 * math.log(2 / alpha) / (spread_before * steps * np.log(steps + 1))))
    cost = (4 * (x - mean_before) ** 2 * (-np.log(1 - stake) - stake) / 4).sum()
    centre, half = (stake * x).sum() / stake.sum(), (math.log(2 / alpha) + cost) / stake.sum()
    return 2 * (centre - half) - 1, 2 * (centre + half) - 1


@pytest.mark.parametrize(("wins", "losses"), [(0.1, 0.1), (0.03, 0.01), (0.3, 0.05)])
def test_no_wider_than_the_closed_form_of_the_paper(wins: float, losses: float) -> None:
    rng = np.random.default_rng(7)
    for count in (400, 2000):
        values = differences(rng, wins, losses, count)
        mine, theirs = mean_limits(values), bernstein(values)
        assert mine[1] - mine[0] <= 1.02 * (theirs[1] - theirs[0])
        assert mine[0] <= theirs[1]
        assert theirs[0] <= mine[1]


def test_more_values_and_less_certainty_are_narrower() -> None:
    values = np.tile([1.0, 0.0, 0.0, -1.0, 0.0], 100)
    widths = [high - low for low, high in (mean_limits(np.tile(values, k)) for k in (1, 2, 4))]
    assert widths[0] > widths[1] > widths[2]
    assert mean_limits(values, 0.8)[1] < mean_limits(values, 0.99)[1]
    assert mean_limits(-values) == tuple(-limit for limit in reversed(mean_limits(values)))
    half = mean_limits(np.full(300, 0.5))  # of several seeds a difference may be a fraction
    assert half[0] <= 0.5 <= half[1] < 0.6


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        mean_limits(np.array([0.0, 1.5]))
    with pytest.raises(ValueError, match="must lie in"):
        mean_limits(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="level=95"):
        mean_limits(np.array([0.0]), 95)
