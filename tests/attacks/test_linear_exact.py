"""The yardstick itself: against linear programming, SLSQP, exhaustive search and every other native attack."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from robustkit.attacks.bim import BIM
from robustkit.attacks.fgsm import FGSM
from robustkit.attacks.linear_exact import LinearExact
from robustkit.attacks.losses import margin
from robustkit.attacks.noise import Noise
from robustkit.attacks.pgd import PGD
from robustkit.contracts import NORMS, Norm, Threat
from robustkit.norms import distance
from robustkit.params import UsageError

Make = Callable[..., Any]


def best_gain(gain: np.ndarray, x: np.ndarray, threat: Threat) -> float:
    """max ⟨gain, δ⟩ over ball ∩ box for one flat sample, by a solver that knows nothing of the closed form."""
    size, eps = len(x), threat.eps
    if threat.norm == "linf":
        bounds = list(zip(np.maximum(-x, -eps), np.minimum(1 - x, eps), strict=True))
        return -float(linprog(-gain, bounds=bounds).fun)
    if threat.norm == "l1":  # δ = p − q
        bounds = [(0, 1 - value) for value in x] + [(0, value) for value in x]
        found = linprog(np.concatenate([-gain, gain]), A_ub=np.ones((1, 2 * size)), b_ub=[eps], bounds=bounds)
        return -float(found.fun)
    if threat.norm == "l0":
        room = np.maximum(gain * (1 - x), -gain * x)  # the ends of the box are the only candidates
        return max(sum(room[list(places)]) for places in itertools.combinations(range(size), int(eps)))
    found = minimize(
        lambda d: -(gain @ d),
        np.zeros(size),
        jac=lambda d: -gain,
        bounds=list(zip(-x, 1 - x, strict=True)),
        constraints={"type": "ineq", "fun": lambda d: eps**2 - d @ d, "jac": lambda d: -2 * d},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert found.status in (0, 8), found.message  # 8: as exact as float64 lets its line search be
    return -float(found.fun)


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 10_000), side=st.integers(1, 3), classes=st.integers(2, 4), share=st.floats(0.02, 1.0))
@settings(deadline=None, max_examples=30)
def test_against_a_solver(linear: Make, norm: Norm, seed: int, side: int, classes: int, share: float) -> None:
    size = side * side
    eps = {"linf": share, "l2": share * side, "l1": share * size, "l0": round(share * size)}[norm]
    model, x, y = linear(samples=2, classes=classes, shape=(1, side, side), middle=False, seed=seed)
    threat = Threat(norm, eps)
    found = margin(model(LinearExact()(model, x, y, threat)), y)
    weight, clean = model[1].weight.numpy(), model(x).numpy()
    for i in range(2):
        own = int(y[i])
        values = x[i].flatten().numpy()
        expected = max(
            clean[i, c] - clean[i, own] + best_gain(weight[c] - weight[own], values, threat)
            for c in range(classes)
            if c != own
        )
        assert float(found[i]) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("norm", NORMS)
@given(
    batch=st.sampled_from([0, 1, 3, 8, 17]),
    image=st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
)
@settings(deadline=None, max_examples=30)
def test_the_worst_case_is_in_ball_and_box(
    linear: Make, norm: Norm, batch: int, image: tuple[int, int, int], dtype: torch.dtype, seed: int, share: float
) -> None:
    model, x, y = linear(samples=batch, shape=image, middle=False, seed=seed, dtype=dtype)
    threat = Threat(norm, share * {"linf": 1.0, "l2": 3.0, "l1": 20.0, "l0": 30.0}[norm])
    kept = x.clone()
    x_adv = LinearExact()(model, x, y, threat)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == dtype
    assert bool((distance(x_adv.double(), x.double(), norm) <= threat.allowance).all())
    assert not batch or 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    assert torch.equal(x, kept)
    if batch:
        assert bool((margin(model(x_adv), y) >= margin(model(x), y) - 1e-5).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_other_attack_does_better(linear: Make, norm: Norm) -> None:
    model, x, y = linear(samples=40, classes=5, middle=False, shape=(1, 6, 6))
    threat = Threat(norm, {"linf": 0.05, "l2": 0.3, "l1": 1.5}[norm])
    worst = margin(model(LinearExact()(model, x, y, threat)), y)
    torch.manual_seed(0)
    for attack in (Noise(), FGSM(), BIM(), PGD(restarts=2), PGD(loss="margin")):
        assert float((margin(model(attack(model, x, y, threat)), y) - worst).max()) <= 1e-5


@pytest.mark.parametrize("norm", NORMS)
def test_misclassified_samples_stay_misclassified(linear: Make, norm: Norm) -> None:
    model, x, y = linear(classes=4)
    other = (y + 1) % 4
    x_adv = LinearExact()(model, x, other, Threat(norm, 0.1 if norm == "linf" else 1.0))
    assert bool((model(x_adv).argmax(dim=1) != other).all())


def test_normalisation_and_a_chain_of_linear_layers_are_affine_too(linear: Make) -> None:
    class Normalised(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.body((x - 0.13) / 0.31))

    _, x, _ = linear(dtype=torch.float32)
    model = Normalised(nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(27, 4))).eval()
    with torch.no_grad():
        y = model(x).argmax(dim=1)
        threat = Threat("linf", 0.02)
        exact = margin(model(LinearExact()(model, x, y, threat)), y)
        assert bool((exact >= margin(model(PGD(loss="margin")(model, x, y, threat)), y) - 1e-5).all())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_is_not_affine_is_refused(untrained: Make) -> None:
    model, x, y = untrained((4, 1, 6, 6))
    with pytest.raises(UsageError, match=r"linear_exact needs a model that is affine .* Use it with model=linear, or"):
        LinearExact()(model, x, y, Threat("linf", 0.1))


def test_a_model_that_is_affine_at_the_inputs_alone_is_refused() -> None:
    """Kinks between the inputs and the edge of the ball: only looking at what was found tells."""

    class Kinked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            values = x.flatten(1)
            up = values.sum(dim=1) + 100 * (values - 0.6).relu().sum(dim=1)
            return torch.stack([values.sum(dim=1) * 0 + 2.1, up], dim=1)

    x, y = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.int64)
    assert LinearExact()(Kinked(), x, y, Threat("linf", 0.05)).allclose(torch.tensor(0.55))
    with pytest.raises(UsageError, match="affine"):
        LinearExact()(Kinked(), x, y, Threat("linf", 0.3))


def test_in_low_precision_it_is_still_recognised_as_affine(linear: Make) -> None:
    """The host searches in bf16 where that is faster, and repeats in float32 what that leaves standing."""
    model, x, y = linear(dtype=torch.float32, samples=40, shape=(1, 9, 9))

    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits: Tensor = model(x)
            return logits.float()

    threat = Threat("linf", 0.05)
    rough, exact = (margin(model(LinearExact()(net, x, y, threat)), y) for net in (Cast(), model))
    assert float((exact - rough).abs().max()) <= 0.02
