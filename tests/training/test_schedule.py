from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustkit.contracts import Recipe
from robustkit.training.schedule import drawn_shares, radius, rate

SCHEDULES = ("cyclic", "onecycle", "step", "constant")


@pytest.mark.parametrize("schedule", SCHEDULES)
@settings(deadline=None)
@given(steps=st.integers(1, 500), lr=st.floats(1e-4, 1.0))
def test_the_rate_is_positive_and_never_above_its_peak(schedule: str, steps: int, lr: float) -> None:
    recipe = Recipe(schedule=schedule, lr=lr)  # type: ignore[arg-type]
    rates = [rate(recipe, step, steps) for step in range(steps)]
    assert all(0 < value <= lr * (1 + 1e-9) for value in rates)


def test_cyclic_peaks_at_two_fifths_and_ends_at_zero() -> None:
    recipe = Recipe(schedule="cyclic", lr=1.0)
    rates = [rate(recipe, step, 1000) for step in range(1000)]
    assert rates.index(max(rates)) in (399, 400)
    assert rates[0] < 0.01
    assert rates[-1] < 0.01


def test_step_divides_by_ten_at_half_and_three_quarters() -> None:
    recipe = Recipe(schedule="step", lr=1.0)
    assert [rate(recipe, step, 100) for step in (49, 50, 74, 75)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_the_radius_grows_over_its_share_and_is_full_afterwards() -> None:
    recipe = Recipe(ramp=0.5)
    radii = [radius(recipe, 0.3, step, 100) for step in range(100)]
    assert radii == sorted(radii)
    assert radii[0] == pytest.approx(0.3 / 50)
    assert radii[49:] == [0.3] * 51
    assert radius(Recipe(ramp=0.0), 0.3, 0, 100) == 0.3


def shares_of(count: int, **fields: object) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    return list(itertools.islice(drawn_shares(Recipe(**fields), 7, generator), count))  # type: ignore[arg-type]


def test_a_fixed_radius_is_used_as_it_is() -> None:
    assert set(shares_of(5)) == {1.0}


@pytest.mark.parametrize("per", ["batch", "image"])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_drawn_radii_have_the_distribution_by_scipy(kind: str, per: str) -> None:
    known = stats.uniform(0, 1) if kind == "uniform" else stats.truncnorm(0, 2, loc=0, scale=0.5)
    drawn = shares_of(2000 if per == "batch" else 300, eps_draw=kind, eps_per=per)
    shares = drawn if per == "batch" else torch.cat(drawn).tolist()
    assert 0 <= min(shares) <= max(shares) <= 1
    assert stats.kstest(shares, known.cdf).pvalue > 0.01
    other = stats.uniform(0, 1) if kind == "normal" else stats.truncnorm(0, 2, loc=0, scale=0.5)
    assert stats.kstest(shares, other.cdf).pvalue < 1e-6


def test_one_radius_an_epoch_where_that_is_asked_for() -> None:
    assert len(set(shares_of(9, eps_draw="uniform", eps_per="epoch"))) == 1
    assert len(set(shares_of(9, eps_draw="uniform"))) == 9
