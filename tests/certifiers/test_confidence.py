"""Limits and tests against scipy, and their error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from robustkit.certifiers.confidence import floor, log_evidence, looks, lower_limit, spending, upper_limit


@pytest.mark.parametrize("count", [1, 7, 100, 100_000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_limits_are_scipys(count: int, alpha: float) -> None:
    for hits in sorted({0, 1, count // 3, count - 1, count}):
        for found, alternative, side in ((lower_limit, "greater", "low"), (upper_limit, "less", "high")):
            known = binomtest(hits, count, alternative=alternative).proportion_ci(1 - alpha, method="exact")
            assert float(found(hits, count, alpha)) == pytest.approx(getattr(known, side), abs=1e-12)


@pytest.mark.parametrize("count", [20, 2000, 100_000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_limits_lie_above_the_share_with_probability_alpha_at_most(count: int, alpha: float) -> None:
    """Exactly, by summing the binomial distribution; and not far less where there are many draws."""
    hits = np.arange(count + 1)
    limits = lower_limit(hits, count, alpha)
    rates = [float(binom.pmf(hits, count, share) @ (limits > share)) for share in np.linspace(0.02, 0.999, 60)]
    assert max(rates) <= alpha * (1 + 1e-9)
    assert count < 1000 or max(rates) > 0.9 * alpha


def test_all_hits_have_the_closed_form() -> None:
    assert float(lower_limit(100_000, 100_000, 0.001)) == pytest.approx(0.001 ** (1 / 100_000), abs=1e-12)


@pytest.mark.parametrize("null", [0.5, 0.8, 0.99])
def test_evidence_has_expectation_at_most_one(null: float) -> None:
    for count in (1, 10, 200):
        hits = np.arange(count + 1)
        evidence = np.exp(log_evidence(hits, np.full(count + 1, count), null))
        for share in (null, 0.9 * null, 0.5 * null):
            assert float((binom.pmf(hits, count, share) * evidence).sum()) <= 1 + 1e-9


def test_evidence_is_none_where_the_tail_underflows() -> None:
    """With the tail clamped at 1e-300 these counts would prove the opposite of what they show."""
    hits, count, null = 100, 2000, 0.8
    assert float(log_evidence(hits, count, null)) == -math.inf
    clamped = (
        math.lgamma(hits + 0.5) + math.lgamma(count - hits + 0.5) - math.lgamma(count + 1) + math.log(1e-300)
    ) - (hits * math.log(null) + (count - hits) * math.log1p(-null))
    assert clamped > math.log(1000)


def test_evidence_matches_an_integral() -> None:
    from scipy.integrate import quad

    hits, count, null = 19, 20, 0.6

    def prior(p: float) -> float:
        return 1 / math.sqrt(p * (1 - p))

    top = quad(lambda p: prior(p) * p**hits * (1 - p) ** (count - hits), null, 1)[0] / quad(prior, null, 1)[0]
    known = math.log(top) - hits * math.log(null) - (count - hits) * math.log(1 - null)
    assert float(log_evidence(hits, count, null)) == pytest.approx(known, rel=1e-6)


def test_looks_grow_to_the_last() -> None:
    sizes = looks(32, 1.25, 100_000)
    assert sizes[0] == 32
    assert sizes[-1] == 100_000
    assert (np.diff(sizes) > 0).all()
    assert list(looks(32, 1.25, 10)) == [10]


@pytest.mark.parametrize("count", [1, 2, 37])
def test_no_more_than_alpha_is_spent(count: int) -> None:
    assert float(spending(0.001, count).sum()) == pytest.approx(0.001)


def test_floor_of_unanimous_votes() -> None:
    assert floor(1.0, 0.5, 0.001) == pytest.approx(math.log2(1000))
    assert floor(0.5, 0.5, 0.001) == math.inf
