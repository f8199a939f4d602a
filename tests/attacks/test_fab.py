"""FAB: its projection against a general solver, and the whole beside the authors' own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from robustkit.attacks.fab import FAB, to_plane
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance
from robustkit.testing.yardstick import yardstick


def reach(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """(N,) distance, +inf where the prediction is still y."""
    with torch.no_grad():
        stands = model(x_adv).argmax(dim=1) == y
        return distance(x_adv, x, norm).masked_fill(stands, torch.inf)


def _shortest(x: np.ndarray, slope: np.ndarray, gap: float, norm: Norm) -> float:
    """The length of the shortest way to the plane within the box, by scipy."""
    size = len(x)
    if norm == "l2":
        found = minimize(
            lambda d: float(d @ d),
            np.zeros(size),
            jac=lambda d: 2 * d,
            bounds=list(zip(-x, 1 - x, strict=True)),
            constraints={"type": "eq", "fun": lambda d: slope @ d - gap, "jac": lambda d: slope},
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        assert found.success
        return float(np.sqrt(found.fun))
    # variables: d and either one bound for all (linf) or one for each (l1)
    more = 1 if norm == "linf" else size
    each = np.ones((size, 1)) if norm == "linf" else np.eye(size)
    found = linprog(
        np.concatenate([np.zeros(size), np.ones(more)]),
        A_ub=np.block([[np.eye(size), -each], [-np.eye(size), -each]]),
        b_ub=np.zeros(2 * size),
        A_eq=np.concatenate([slope, np.zeros(more)])[None],
        b_eq=[gap],
        bounds=[*zip(-x, 1 - x, strict=True), *[(0, None)] * more],
    )
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_projection_is_the_shortest_way(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand((20, 1, 3, 4), generator=generator, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)
    slope = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    slope[::3, 0, 0] = 0
    most = torch.where(slope > 0, 1 - x, x).mul(slope.abs()).flatten(1).sum(dim=1)
    least = torch.where(slope < 0, 1 - x, x).mul(slope.abs()).flatten(1).sum(dim=1)
    share = torch.rand(20, generator=generator, dtype=torch.float64)
    gap = torch.where(torch.arange(20) % 2 == 0, share * most, -share * least)
    step = to_plane(x, slope, gap, norm)
    assert torch.allclose((slope * step).flatten(1).sum(dim=1), gap)
    assert bool(((x + step >= -1e-12) & (x + step <= 1 + 1e-12)).all())
    length = distance(step, torch.zeros_like(step), norm)
    for row in range(20):
        exact = _shortest(x[row].flatten().numpy(), slope[row].flatten().numpy(), float(gap[row]), norm)
        assert float(length[row]) == pytest.approx(exact, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_plane_out_of_reach_is_approached_as_far_as_the_box_goes(norm: Norm) -> None:
    x = torch.full((2, 1, 2, 2), 0.75)
    slope = torch.tensor([1.0, -1.0, 0.0, 2.0]).reshape(1, 1, 2, 2).expand(2, 1, 2, 2)
    step = to_plane(x, slope, torch.tensor([100.0, -100.0]), norm)
    expected = torch.tensor([[0.25, -0.75, 0.0, 0.25], [-0.75, 0.25, 0.0, -0.75]])
    assert torch.allclose(step.flatten(1), expected)


@pytest.mark.parametrize("aimed", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_a_linear_classifier_it_finds_the_margin(norm: Norm, aimed: bool) -> None:
    ruler = yardstick(norm)
    attack = FAB(steps=20, aimed=aimed)
    far = reach(ruler.model, ruler.x, attack(ruler.model, ruler.x, ruler.y, ruler.threat(1.0)), ruler.y, norm)
    assert float(far.min()) >= 0.9999 * ruler.margin
    assert float(far.max()) <= 1.01 * ruler.margin


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_median_distance_beside_the_authors_code(trained: Any, norm: Norm) -> None:
    pytest.importorskip("pyautoattack")
    from pyautoattack.fab_pt import FABAttack_PT

    model, x, y = trained.model, trained.x[:30], trained.y[:30]
    given = {"eps": 1e9, "norm": {"linf": "Linf", "l2": "L2", "l1": "L1"}[norm], "n_restarts": 1, "n_iter": 50}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        theirs = FABAttack_PT(model, seed=0, device="cpu", targeted=True, n_target_classes=4, **given).perturb(x, y)
    ours = FAB(steps=50, aimed=True, classes=4)(model, x, y, Threat(norm, 0.0))
    far, their_far = (reach(model, x, z.detach(), y, norm) for z in (ours, theirs))
    assert bool(their_far.median().isfinite())
    assert float(far.median()) <= 1.02 * float(their_far.median())


def test_enough_is_enough(trained: Any) -> None:
    model, x, y = trained.model, trained.x[:40], trained.y[:40]
    counts: list[int] = []
    handle = model.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    try:
        FAB(steps=20, aimed=True, classes=2).search(model, x, y, "linf", enough=0.09)
        some = sum(counts)
        counts.clear()
        FAB(steps=20, aimed=True, classes=2).search(model, x, y, "linf", enough=0.0)
    finally:
        handle.remove()
    assert some < 0.8 * sum(counts)
