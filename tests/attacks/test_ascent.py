from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from robustkit.attacks.ascent import ascend, checkpoints
from robustkit.attacks.linear_exact import LinearExact
from robustkit.attacks.losses import cross_entropy, margin
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, project

Make = Callable[..., Any]


def test_checkpoints_are_those_of_the_paper() -> None:
    """Croce & Hein 2020, section 3.1: p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of 100 steps."""
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
def test_checkpoints_cover_any_number_of_steps(steps: int) -> None:
    found = checkpoints(steps)
    assert all(0 < step < steps for step in found)
    assert list(found) == sorted(found)
    assert sum(found.values()) == max(found, default=0)


def test_against_a_plain_loop(untrained: Make) -> None:
    """Up to the first checkpoint it is momentum with steps of 2 eps, written down plainly."""
    model, x, y = untrained((6, 3, 7, 7), dtype=torch.float64)
    threat = Threat("linf", 1e-4)
    seen: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    found, value = ascend(model, x, y, threat, x, steps=40, loss=cross_entropy, ends=False)
    handle.remove()
    assert len(seen) == 41
    assert next(iter(checkpoints(40))) == 9
    point = before = x
    for step in range(10):
        assert torch.allclose(seen[step], point, atol=1e-12)
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(point), y).sum(), point)
        point = point.detach()
        ahead = project(point + 2e-4 * gradient.sign(), x, threat)
        moved = point + 0.75 * (ahead - point) + 0.25 * (point - before) if step else ahead
        point, before = project(moved, x, threat), point
    losses = torch.stack([cross_entropy(model(z), y) for z in seen])
    assert torch.allclose(losses.amax(dim=0), value)
    assert torch.allclose(cross_entropy(model(found), y), value)


@pytest.mark.parametrize(("norm", "eps", "gap"), [("linf", 0.02, 1e-6), ("l2", 0.1, 1e-3), ("l1", 0.4, 0.02)])
def test_on_a_linear_classifier_it_ends_at_the_exact_worst_case(
    linear: Make, norm: Norm, eps: float, gap: float
) -> None:
    model, x, y = linear(classes=2)
    threat = Threat(norm, eps)
    found, value = ascend(model, x, y, threat, x, steps=100, loss=margin, ends=False)
    exact, clean = margin(model(LinearExact()(model, x, y, threat)), y), margin(model(x), y)
    assert torch.allclose(margin(model(found), y), value)
    assert float(((exact - value) / (exact - clean)).max()) <= gap
    assert bool((distance(found, x, norm) <= threat.allowance).all())


def test_what_has_fallen_leaves_the_batch_unless_asked_otherwise(trained: Any) -> None:
    counts: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    x, y = trained.x[:32], trained.y[:32].clone()
    y[:12] = (y[:12] + 1) % 10
    try:
        for ends, expected in ((True, [32, 20, 20, 20]), (False, [32] * 4)):
            counts.clear()
            ascend(trained.model, x, y, Threat("linf", 1e-4), x, steps=3, loss=cross_entropy, ends=ends)
            assert counts == expected
    finally:
        handle.remove()
