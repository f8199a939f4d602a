"""Soundness by simulation: false promises are at most alpha, at, below and far below each threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pytest

from robustkit.certifiers import stopping
from robustkit.certifiers.confidence import Ints, upper_limit
from robustkit.certifiers.smoothing_noise import Gaussian
from robustkit.certifiers.stopping import Found, Plan, adaptive, fixed
from robustkit.contracts import ABSTAIN

ALPHA = 0.05
N = 2000
NOISE = Gaussian(1.0, "l2", 1)
Run = Callable[[stopping.Draw, int], Found]


def multinomial(shares: list[float], seed: int) -> stopping.Draw:
    generator = np.random.default_rng(seed)
    return lambda rows, count: generator.multinomial(count, shares, size=len(rows))


def run_fixed(draw: stopping.Draw, inputs: int) -> Found:
    return fixed(draw, inputs, NOISE, 20, N, ALPHA)


def run_adaptive(
    radii: tuple[float, ...], futility: float = 0.001, evidence: Literal["looks", "mixture"] = "looks"
) -> Run:
    plan = Plan(
        first=16,
        growth=1.25,
        last=N,
        alpha=ALPHA,
        shares=tuple(map(NOISE.share, radii)),
        futility=futility,
        evidence=evidence,
    )
    return lambda draw, inputs: adaptive(draw, np.zeros(inputs, dtype=np.int64), NOISE, plan, radii)


def selected_then_adaptive(draw: stopping.Draw, inputs: int) -> Found:
    plan = Plan(first=16, growth=1.25, last=N, alpha=ALPHA, shares=(0.5, 0.9), futility=0.001)
    return adaptive(
        draw, draw(np.arange(inputs), 20).argmax(axis=1), NOISE, plan, (0.0, float(NOISE.radius(np.array(0.9))))
    )


@dataclass(frozen=True)
class Rate:
    """False promises in simulated certifications of an input whose share lies `below` a threshold.

    `errors` are too large by any amount, `reached` of those reach the threshold's radius; with upper limits.
    """

    threshold: float
    below: float
    errors: int
    reached: int
    simulations: int
    upper: float
    upper_reached: float


def false_promises(found: Found, shares: list[float]) -> int:
    """Radii above the one that the true share of the promised class is worth."""
    true = NOISE.radius(np.array(shares))[np.maximum(found.prediction, 0)]
    wrong = np.array(shares)[np.maximum(found.prediction, 0)] < 0.5
    return int(((found.prediction != ABSTAIN) & (wrong | (found.radius > true + 1e-12))).sum())


MODES: dict[str, Run] = {
    "fixed": run_fixed,
    "table": run_adaptive((0.0, 0.5, 1.0, 2.0)),
    "table_impatient": run_adaptive((0.0, 0.5, 1.0, 2.0), futility=0.2),
    "single_0": run_adaptive((0.0,)),
    "single_1": run_adaptive((1.0,)),
    "single_2": run_adaptive((2.0,)),
    "mixture_0": run_adaptive((0.0,), evidence="mixture"),
    "mixture_1": run_adaptive((1.0,), evidence="mixture"),
    "mixture_2": run_adaptive((2.0,), evidence="mixture"),
    "selected": selected_then_adaptive,
}
THRESHOLDS = (0.5, NOISE.share(1.0), NOISE.share(2.0))


JUST, FAR = (1e-9, 1e-3, 0.01), (0.05, 0.1, 0.3)
"""How far below a threshold the true share lies: so near that a promise is within reach, and where none should be."""


def check_sound(run: Run, simulations: int, below: Sequence[float] = (1e-9, 0.01, 0.3)) -> list[Rate]:
    """Every rate with the upper limit of its 99.9 % interval (Clopper & Pearson), for the reader and the report."""
    rates = []
    for threshold in THRESHOLDS:
        for gap in below:
            p = threshold - gap
            shares = [p, 1 - p]
            found = run(multinomial(shares, seed=round(1e6 * p)), simulations)
            errors = false_promises(found, shares)
            beyond = found.radius >= NOISE.radius(np.array(threshold)) - 1e-12
            reached = int(((found.prediction == 0) & beyond).sum())
            limits = upper_limit([errors, reached], simulations, 0.001)
            rates.append(Rate(threshold, gap, errors, reached, simulations, *map(float, limits)))
            allowed = ALPHA + 3.3 * np.sqrt(ALPHA * (1 - ALPHA) / simulations)
            assert errors / simulations <= allowed, f"{errors} of {simulations}: {rates[-1]}"
    return rates


@pytest.mark.parametrize("mode", MODES)
def test_false_promises_are_rare(mode: str, record_property: Callable[[str, object], None]) -> None:
    record_property("false promises", [asdict(rate) for rate in check_sound(MODES[mode], 2000)])


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_false_promises_are_rare_at_length(mode: str, record_property: Callable[[str, object], None]) -> None:
    rates = check_sound(MODES[mode], 20_000, (*JUST, *FAR))
    record_property("false promises", [asdict(rate) for rate in rates])
    assert max(rate.upper_reached for rate in rates if rate.below >= 0.1) < 0.005


def test_three_even_classes_promise_nothing() -> None:
    shares = [1 / 3, 1 / 3, 1 / 3]
    found = fixed(multinomial(shares, 1), 2000, NOISE, 20, N, ALPHA)
    assert (found.prediction == ABSTAIN).all()


@pytest.mark.parametrize(("mode", "asked"), [("fixed", 2.0), ("table", 2.0), ("selected", NOISE.radius(np.array(0.9)))])
def test_what_is_clear_is_promised(mode: str, asked: float) -> None:
    found = MODES[mode](multinomial([0.999, 0.001], 2), 500)
    assert (found.prediction == 0).all()
    assert float(np.median(found.radius)) >= asked


@pytest.mark.parametrize("mode", ["single_1", "mixture_1"])
def test_single_radius_is_cheap(mode: str) -> None:
    found = MODES[mode](multinomial([0.99, 0.01], 3), 500)
    assert (found.radius >= 1.0).all()
    assert found.passes.mean() < 150


def test_hopeless_inputs_are_given_up() -> None:
    found = MODES["table"](multinomial([0.1, 0.9], 4), 500)
    assert (found.prediction == ABSTAIN).all()
    assert found.passes.mean() < 60


def test_shared_selection_samples_are_caught() -> None:
    """The fault: the selected class is estimated from the very draws that selected it."""

    def reused(draw: stopping.Draw, inputs: int) -> Found:
        kept = draw(np.arange(inputs), N)
        return fixed(lambda rows, count: kept, inputs, NOISE, N, N, ALPHA)

    with pytest.raises(AssertionError, match="of 2000"):
        check_sound(reused, 2000)


def test_selection_draws_are_not_counted() -> None:
    asked: list[int] = []

    def draw(rows: Ints, count: int) -> Ints:
        asked.append(count)
        return np.tile([count, 0], (len(rows), 1))

    found = run_fixed(draw, 3)
    assert asked == [20, N]
    assert (found.hits == N).all()


def test_unspent_alpha_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: every look at the full level."""
    monkeypatch.setattr(stopping, "spending", lambda alpha, count: np.full(count, alpha))
    with pytest.raises(AssertionError, match="of 2000"):
        check_sound(run_adaptive((0.0, 0.5, 1.0, 2.0), futility=0.0), 2000)


def test_clamped_tail_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: a tail that cannot fall below 1e-300, whose ratio to the likelihood then explodes."""
    from scipy.special import betaincc, betaln

    def clamped(hits: Ints, count: int, null: float) -> np.ndarray:
        a, b = hits + 0.5, count - hits + 0.5
        tail = np.log(np.maximum(1e-300, betaincc(a, b, null)))
        prior = betaln(0.5, 0.5) + np.log(betaincc(0.5, 0.5, null))
        return betaln(a, b) + tail - prior - hits * np.log(null) - (count - hits) * np.log1p(-null)

    monkeypatch.setattr(stopping, "log_evidence", clamped)
    with pytest.raises(AssertionError, match="of 2000"):
        check_sound(run_adaptive((1.0,), futility=0.0, evidence="mixture"), 2000)
