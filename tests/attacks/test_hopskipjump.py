"""HopSkipJump: the closed form on linear classifiers, beside foolbox on a trained network, its books."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.hopskipjump import HopSkipJump, _normal, _Oracle, _to_boundary
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, flat
from robustkit.testing.yardstick import yardstick

Make = Callable[..., Any]
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def reach(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """(N,) distance, +inf where the prediction is still y."""
    return distance(x_adv, x, norm).masked_fill(model(x_adv).argmax(dim=1) == y, torch.inf)


@norms
def test_on_a_linear_classifier_it_tends_to_the_margin(norm: Norm) -> None:
    ruler = yardstick(norm)
    medians = []
    for queries in (500, 4000):
        torch.manual_seed(0)
        x_adv = HopSkipJump(queries=queries)(ruler.model, ruler.x, ruler.y, ruler.threat(1.0))
        far = reach(ruler.model, ruler.x, x_adv, ruler.y, norm)
        assert float(far.min()) >= 0.9999 * ruler.margin
        medians.append(float(far.median()) / ruler.margin)
    # 192 values: 1.70 then 1.06 in l2, 1.33 then 1.001 in linf
    assert medians[1] <= min(1.12, medians[0] - 0.1)


@norms
def test_not_farther_than_foolbox_at_the_same_queries(trained: Any, norm: Norm) -> None:
    foolbox = pytest.importorskip("foolbox")
    model, x, y = trained.model, trained.x[:20], trained.y[:20]
    torch.manual_seed(0)
    start = torch.rand_like(x)
    for _ in range(100):
        stands = model(start).argmax(dim=1) == y
        coarse = torch.rand(len(x), 1, 4, 4).repeat_interleave(7, dim=2).repeat_interleave(7, dim=3)
        start = torch.where(stands[:, None, None, None], coarse, start)
    passed: list[int] = []
    handle = model.register_forward_pre_hook(lambda module, given: passed.append(len(given[0])))
    try:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        found = foolbox.attacks.HopSkipJumpAttack(steps=4, constraint=norm).run(
            wrapped, x, foolbox.criteria.Misclassification(y), starting_points=start
        )
    finally:
        handle.remove()
    theirs = reach(model, x, found, y, norm)
    x_adv, queries = HopSkipJump(queries=sum(passed) // len(x)).counted(model, x, y, Threat(norm, 0.0))
    ours = reach(model, x, x_adv, y, norm)
    assert int(queries.sum()) <= sum(passed)
    assert bool(theirs.median().isfinite())
    assert float(ours.median()) <= 1.15 * float(theirs.median())
    assert int(ours.isinf().sum()) <= int(theirs.isinf().sum()) + 1


@norms
def test_queries_are_counted_by_sample_and_kept_to(trained: Any, norm: Norm) -> None:
    x, y = trained.x[:20], trained.y[:20]
    passed: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, given: passed.append(len(given[0])))
    attack = HopSkipJump(queries=400, directions=30)
    try:
        _, altogether = attack.counted(trained.model, x, y, Threat(norm, 0.0))
    finally:
        handle.remove()
    assert sum(passed) == int(altogether.sum())
    assert int(altogether.max()) <= 400
    assert int(altogether.min()) >= 350  # what is left is too little for another step
    eps = {"linf": 0.2, "l2": 4.0}[norm]
    found = []
    for radius in (0.0, eps, 1.5 * eps):
        torch.manual_seed(0)
        found.append(attack.counted(trained.model, x, y, Threat(norm, radius)))
    fell = reach(trained.model, x, found[1][0], y, norm) <= eps
    assert 3 <= int(fell.sum()) <= len(x)
    assert torch.equal(found[0][0], found[1][0])  # eps is for the books alone
    assert torch.equal(found[1][1] < found[0][1], fell)
    assert bool((found[2][1] <= found[1][1]).all())
    assert bool((found[2][1] < found[1][1]).any())


@norms
def test_decisions_are_all_it_sees(trained: Any, norm: Norm) -> None:
    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(trained.model(x).argmax(dim=1), 10).to(x.dtype)

    x, y, threat = trained.x[:8], trained.y[:8], Threat(norm, 0.0)
    found = []
    for model in (trained.model, Deciding()):
        torch.manual_seed(0)
        found.append(HopSkipJump(queries=300)(model, x, y, threat))
    assert torch.equal(found[0], found[1])


def test_what_never_falls_comes_back_and_costs_the_start_alone() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0]).expand(len(x), 2)

    x, y = torch.rand(3, 2, 5, 4), torch.tensor([0, 0, 1])
    x_adv, queries = HopSkipJump(queries=150).counted(Constant(), x, y, Threat("l2", 0.5))
    assert torch.equal(x_adv, x)
    assert queries.tolist() == [76, 76, 1]  # itself, and half of the queries for a start; the last is wrong as it is


def test_the_estimate_tends_to_the_boundary_s_normal(linear: Make) -> None:
    """On a plane the mean of u·sign(⟨w, u⟩) over the sphere points along w; its error is about √(D / B)."""
    model, x, y = linear(samples=6, classes=2)
    normal = flat((model[1].weight[1] - model[1].weight[0])[None]).squeeze(0)
    gap = model(x) @ torch.tensor([1.0, -1.0], dtype=x.dtype)
    on = x + (gap / normal.square().sum()).reshape(-1, 1, 1, 1) * normal.reshape(1, *x.shape[1:])
    assert float((model(on)[:, 0] - model(on)[:, 1]).abs().max()) < 1e-12
    torch.manual_seed(0)
    rows = torch.arange(len(x))
    probes = torch.tensor([4000, 4000, 4000, 4000, 4000, 40])
    found = _normal(_Oracle(model, y), on, rows, probes, torch.full((len(x),), 1e-3, dtype=x.dtype))
    toward = normal * torch.where(y == 0, 1.0, -1.0)[:, None]
    cosine = nn.functional.cosine_similarity(flat(found), toward)
    # √(2 / π) of the length is along w: tan of the angle is √(π (D − 1) / 2B), 0.1 for 4000 of 25 dimensions
    assert float(cosine[:5].min()) >= math.cos(math.atan(0.1 * 2))
    assert float(cosine[5]) >= 0.3
    asked = _Oracle(model, y)
    _normal(asked, on, rows, probes, torch.full((len(x),), 1e-3, dtype=x.dtype))
    assert torch.equal(asked.used, probes)


@norms
def test_bisection_ends_at_the_boundary(linear: Make, norm: Norm) -> None:
    model, x, y = linear(samples=10, classes=2)
    normal = (model[1].weight[1] - model[1].weight[0]) * torch.where(y == 0, 1.0, -1.0)[:, None]
    far = (0.2 + 0.7 * (normal > 0).to(x.dtype)).reshape(x.shape)
    rows = torch.arange(1, len(x))
    assert bool((model(far).argmax(dim=1) != y).all())
    found = _to_boundary(_Oracle(model, y), x[rows], far[rows], rows, norm, 20)
    assert bool((model(found).argmax(dim=1) != y[rows]).all())
    nearer = x[rows] + (1 - 1e-4) * (found - x[rows])
    if norm == "linf":
        bound = (distance(found, x[rows], norm) * (1 - 1e-4)).reshape(-1, 1, 1, 1)
        nearer = x[rows] + torch.minimum(torch.maximum(far[rows] - x[rows], -bound), bound)
    assert bool((model(nearer).argmax(dim=1) == y[rows]).all())
