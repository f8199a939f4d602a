"""Minimal distances against exact search on a two-layer network: every pattern of its ReLUs, a convex program each."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, nnls
from torch import Tensor, nn

from robustkit.attacks.cw import CW
from robustkit.attacks.ddn import DDN
from robustkit.attacks.deepfool import DeepFool
from robustkit.attacks.fab import FAB
from robustkit.attacks.fmn import FMN
from robustkit.attacks.hopskipjump import HopSkipJump
from robustkit.contracts import NORMS, Norm, Threat
from robustkit.norms import distance

INPUTS, HIDDEN, CLASSES, SAMPLES = 5, 6, 3, 24
Halfspaces = tuple[np.ndarray, np.ndarray]
"""G (m, D) and h (m,): the points z with G z ≥ h."""


@cache
def case() -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network whose six kinks cross the cube and whose three classes share it; float64, points x, predictions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)).double()
        z, x = (torch.rand(count, 1, 1, INPUTS, dtype=torch.float64) for count in (1000, SAMPLES))
        through = torch.rand(HIDDEN, INPUTS, dtype=torch.float64)
        with torch.no_grad():
            model[1].weight.copy_(1.5 * torch.randn(HIDDEN, INPUTS))
            model[1].bias.copy_(-(model[1].weight * through).sum(dim=1))
            model[3].weight.copy_(torch.randn(CLASSES, HIDDEN))
            model[3].bias.sub_(model(z).mean(dim=0))
    return model.requires_grad_(False).eval(), x, model(x).argmax(dim=1)


def pieces() -> list[tuple[Halfspaces, np.ndarray, np.ndarray]]:
    """The cells of the cube in which the network is affine, with its matrix (K, D) and offset (K,) there."""
    model, _, _ = case()
    (w1, b1), (w2, b2) = ((layer.weight.numpy(), layer.bias.numpy()) for layer in (model[1], model[3]))
    eye = np.eye(INPUTS)
    found = []
    for pattern in itertools.product([0.0, 1.0], repeat=HIDDEN):
        on = np.array(pattern)
        sign = 2 * on - 1
        cell = (
            np.concatenate([sign[:, None] * w1, eye, -eye]),
            np.concatenate([-sign * b1, np.zeros(INPUTS), -np.ones(INPUTS)]),
        )
        if shortest(*cell) is not None:
            found.append((cell, (w2 * on) @ w1, w2 @ (on * b1) + b2))
    return found


def shortest(g: np.ndarray, h: np.ndarray) -> float | None:
    """min ‖z‖₂ with G z ≥ h, None where there is no such z, by non-negative least squares (Lawson & Hanson 1974)."""
    e = np.concatenate([g.T, h[None]])
    f = np.zeros(len(e))
    f[-1] = 1
    residual = e @ nnls(e, f)[0] - f
    if np.linalg.norm(residual) < 1e-9:
        return None
    return float(np.linalg.norm(residual[:-1] / residual[-1]))


def by_linear_program(g: np.ndarray, h: np.ndarray, norm: Norm) -> float:
    """min ‖z‖ in l1 or linf with G z ≥ h, for a set that is not empty."""
    size = g.shape[1]
    if norm == "l1":  # z = p − q
        found = linprog(np.ones(2 * size), A_ub=np.hstack([-g, g]), b_ub=-h, bounds=(0, None))
    else:
        eye, one = np.eye(size), np.ones((size, 1))
        above = np.vstack([np.hstack([-g, np.zeros((len(g), 1))]), np.hstack([eye, -one]), np.hstack([-eye, -one])])
        cost = np.append(np.zeros(size), 1.0)
        found = linprog(cost, A_ub=above, b_ub=np.append(-h, np.zeros(2 * size)), bounds=(None, None))
    assert found.status == 0, found.message
    return float(found.fun)


@cache
def exact(norm: Norm) -> Tensor:
    """(N,) the distance to the nearest point of the cube at which another class has at least the logit of y."""
    _, x, y = case()
    cells = pieces()
    assert 15 <= len(cells) <= 2**HIDDEN
    nearest = []
    for point, label in zip(x.reshape(SAMPLES, INPUTS).numpy(), y.tolist(), strict=True):
        sets = []
        for (g, h), slope, offset in cells:
            for other in set(range(CLASSES)) - {label}:
                lead = np.vstack([g, slope[other] - slope[label]])
                least = np.append(h, offset[label] - offset[other]) - lead @ point
                far = shortest(lead, least)
                if far is not None:
                    sets.append((far, lead, least))
        sets.sort(key=lambda found: found[0])
        if norm == "l2":
            nearest.append(sets[0][0])
        elif norm == "l0":
            nearest.append(float(_fewest([(lead, least) for _, lead, least in sets])))
        else:
            best, shrinks = math.inf, {"l1": 1.0, "linf": 1 / math.sqrt(INPUTS)}[norm]
            for far, lead, least in sets:
                if shrinks * far < best:  # no vector of this l2 length is shorter in the norm
                    best = min(best, by_linear_program(lead, least, norm))
            nearest.append(best)
    return torch.tensor(nearest, dtype=torch.float64)


def _fewest(sets: list[Halfspaces]) -> int:
    """The smallest number of values that must move to reach one of the sets."""
    for count in range(1, INPUTS + 1):
        for chosen in itertools.combinations(range(INPUTS), count):
            if any(shortest(g[:, list(chosen)], h) is not None for g, h in sets):
                return count
    raise AssertionError("no set can be reached")


@pytest.mark.parametrize("norm", NORMS)
def test_the_exact_distance_is_that_of_a_point_and_no_sample_is_nearer(norm: Norm) -> None:
    """The ruler itself: random points of the ball just inside it are all of the same class, in every norm."""
    model, x, y = case()
    far = exact(norm)
    assert bool(((far > 0) & far.isfinite()).all())
    generator = torch.Generator().manual_seed(1)
    for _ in range(300):
        z = torch.rand(x.shape, generator=generator, dtype=torch.float64)
        fell = model(z).argmax(dim=1) != y
        assert bool((distance(z, x, norm)[fell] >= far[fell]).all())
    if norm == "l2":  # in a two-layer network the fewest values, the largest and the sum bound the length
        assert bool((exact("linf") <= far + 1e-9).all())
        assert bool((far <= exact("l1") + 1e-9).all())
        assert bool((exact("l1") <= math.sqrt(INPUTS) * far + 1e-9).all())


CASES: list[tuple[Any, Norm, float]] = [  # with the median's tolerance; what was measured is in brackets
    (DDN(steps=300), "l2", 1.05),  # 1.011: the sphere changes by a twentieth a step
    (CW(steps=150, binary_search_steps=6, initial_const=0.1, step_size=0.02), "l2", 1.02),  # 1.001
    *[(FMN(steps=300), norm, 1.01) for norm in NORMS],  # 1.0003, in l0 1
    *[(FAB(steps=100, restarts=2), norm, 1.01) for norm in ("linf", "l2", "l1")],  # 1.0007
    (DeepFool(), "linf", 1.01),  # 1.001
    (DeepFool(), "l2", 1.01),  # 1.001
    (HopSkipJump(queries=3000), "linf", 1.04),  # 1.002 with 5,000 queries
    (HopSkipJump(queries=3000), "l2", 1.04),  # 1.003
]


@pytest.mark.parametrize(
    ("attack", "norm", "median"), CASES, ids=[f"{type(attack).__name__}-{norm}" for attack, norm, _ in CASES]
)
def test_the_median_is_that_of_exact_search(attack: Any, norm: Norm, median: float) -> None:
    model, x, y = case()
    torch.manual_seed(0)
    x_adv = attack(model, x, y, Threat(norm, 0.0))
    ratio = distance(x_adv, x, norm).masked_fill(model(x_adv).argmax(dim=1) == y, torch.inf) / exact(norm)
    assert float(ratio.min()) >= 1 - 1e-6  # nothing is nearer than the nearest
    assert float((ratio <= median).double().mean()) >= 0.6
    assert float(ratio.isfinite().double().mean()) >= 0.9  # one of them starts where no unit is on
