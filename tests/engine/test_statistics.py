from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustkit.engine.statistics import auroc_interval, mcnemar, paired_difference, wilson

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(share=COUNTS, level=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(share: tuple[int, int], level: float) -> None:
    hits, count = share
    expected = stats.binomtest(hits, count).proportion_ci(level, method="wilson")
    assert wilson(hits, count, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


@pytest.mark.parametrize(("hits", "count"), [(-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(hits: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"hits={hits}"):
        wilson(hits, count)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_levels_are_shares(level: float) -> None:
    with pytest.raises(ValueError, match=f"level={level}"):
        wilson(1, 2, level)
    with pytest.raises(ValueError, match=f"level={level}"):
        paired_difference(1, 2, 5, level)


@settings(deadline=None)
@given(first=st.integers(0, 300), second=st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


@settings(deadline=None)
@given(first=st.integers(0, 200), second=st.integers(0, 200), rest=st.integers(0, 500))
def test_paired_difference_is_in_its_interval_and_changes_sign_with_the_order(
    first: int, second: int, rest: int
) -> None:
    count = first + second + rest
    if not count:
        return
    difference, low, high = paired_difference(first, second, count)
    assert difference == pytest.approx((second - first) / count)
    assert -1 <= low <= difference <= high <= 1
    assert paired_difference(second, first, count) == pytest.approx((-difference, -high, -low))


def test_paired_difference_by_hand() -> None:
    # n = 100, b = 12, c = 5: shares 13/102 and 6/102, their difference -7/102,
    # standard error sqrt((19/102 - (7/102)^2) / 102) = 0.0421895, times 1.959964
    difference, low, high = paired_difference(12, 5, 100)
    assert difference == pytest.approx(-0.07)
    assert (low, high) == pytest.approx((-0.151318, 0.014063), abs=2e-5)


@pytest.mark.parametrize(("first", "second"), [(0.12, 0.04), (0.03, 0.03), (0.01, 0.1)])
def test_paired_difference_covers_what_it_says(first: float, second: float) -> None:
    count, covered = 40, 0.0
    for b, c in itertools.product(range(count + 1), repeat=2):  # all outcomes, with their probabilities
        if b + c > count:
            continue
        _, low, high = paired_difference(b, c, count)
        if low <= second - first <= high:
            rest = 1 - first - second
            covered += float(stats.multinomial.pmf([b, c, count - b - c], count, [first, second, rest]))
    assert covered >= 0.94


@pytest.mark.parametrize(("first", "second", "count"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_paired_difference_refuses_impossible_counts(first: int, second: int, count: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        paired_difference(first, second, count)


@pytest.mark.parametrize("area", [0.6, 0.85, 0.97])
def test_auroc_interval_covers_what_it_says(area: float) -> None:
    """Exponential scores, for which the variance of Hanley & McNeil is exact but for the two numbers."""
    generator = np.random.default_rng(7)
    positive = generator.exponential(area / (1 - area), (1500, 30, 1))
    negative = generator.exponential(1.0, (1500, 1, 45))
    areas = (positive > negative).mean(axis=(1, 2))
    assert areas.mean() == pytest.approx(area, abs=0.01)
    covered = [low <= area <= high for low, high in (auroc_interval(float(a), 30, 45) for a in areas)]
    assert 0.92 <= np.mean(covered) <= 0.985


@given(st.floats(0, 1), st.integers(1, 300), st.integers(1, 300))
def test_auroc_interval_holds_the_area_and_mirrors(area: float, positive: int, negative: int) -> None:
    low, high = auroc_interval(area, positive, negative)
    assert 0 <= low <= area <= high <= 1
    assert low < high
    mirrored = auroc_interval(1 - area, positive, negative)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


@pytest.mark.parametrize(("area", "positive", "negative"), [(1.2, 3, 3), (0.5, 0, 3), (0.5, 3, 0)])
def test_auroc_interval_refuses_what_is_no_area(area: float, positive: int, negative: int) -> None:
    with pytest.raises(ValueError, match="samples on both sides"):
        auroc_interval(area, positive, negative)
