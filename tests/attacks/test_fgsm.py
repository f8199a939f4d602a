from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from robustkit.attacks.fgsm import FGSM
from robustkit.attacks.linear_exact import LinearExact
from robustkit.attacks.losses import cross_entropy, margin
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance

Make = Callable[..., Any]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_classifier_it_is_the_exact_worst_case(linear: Make, norm: Norm, dtype: torch.dtype) -> None:
    """Two classes: the gradient of cross-entropy is a multiple of the difference of their weights."""
    model, x, y = linear(classes=2, dtype=dtype)
    threat = Threat(norm, {"linf": 0.1, "l2": 0.25}[norm])
    found, exact = FGSM()(model, x, y, threat), LinearExact()(model, x, y, threat)
    assert float((margin(model(found), y) - margin(model(exact), y)).abs().max()) <= 1e-6
    assert float((found - exact).abs().max()) <= 1e-6


def test_with_the_box_in_the_way_the_sign_is_still_exact(linear: Make) -> None:
    model, x, y = linear(classes=2, middle=False, samples=60)
    threat = Threat("linf", 0.2)
    found, exact = FGSM()(model, x, y, threat), LinearExact()(model, x, y, threat)
    assert float(((x + threat.eps > 1) | (x - threat.eps < 0)).double().mean()) > 0.3  # the box cuts the ball
    assert float((margin(model(found), y) - margin(model(exact), y)).abs().max()) <= 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", [0.01, 0.2])
def test_the_perturbation_has_length_eps_where_the_box_is_far(linear: Make, norm: Norm, eps: float) -> None:
    model, x, y = linear(shape=(1, 9, 9), dtype=torch.float32)
    length = distance(FGSM()(model, x, y, Threat(norm, eps)).double(), x.double(), norm)
    assert torch.allclose(length, torch.full_like(length, eps), rtol=3e-6)


def test_the_step_of_a_confident_network_has_length_eps_too(linear: Make) -> None:
    """Gradients of 1e-25, whose squares are 0 in float32."""
    model, x, y = linear(classes=2, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 57 / margin(model(x), y).abs().amax()
    standing = margin(model(x), y) < -40
    assert bool(standing.any())
    length = distance(FGSM()(model, x, y, Threat("l2", 0.1)), x, "l2")
    assert torch.allclose(length[standing], torch.full_like(length[standing], 0.1), rtol=1e-5)


def test_the_formula(untrained: Make) -> None:
    model, x, y = untrained((7, 3, 6, 6), dtype=torch.float64)
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(model(point), y).sum(), point)
    assert torch.allclose(FGSM()(model, x, y, Threat("linf", 0.03)), (x + 0.03 * gradient.sign()).clamp(0, 1))
    length = gradient.flatten(1).norm(dim=1)[:, None, None, None]
    assert torch.allclose(FGSM()(model, x, y, Threat("l2", 0.3)), (x + 0.3 * gradient / length).clamp(0, 1))
    target = (y + 1) % 5
    (gradient,) = torch.autograd.grad(cross_entropy(model(point), target).sum(), point)
    found = FGSM(targeted=True)(model, x, target, Threat("linf", 0.03))
    assert torch.allclose(found, (x - 0.03 * gradient.sign()).clamp(0, 1))


def test_l1_moves_the_share_of_coordinates_with_the_largest_gradient(linear: Make) -> None:
    model, x, y = linear(classes=2, shape=(1, 10, 10))
    moved = (FGSM()(model, x, y, Threat("l1", 0.5)) - x).flatten(1)
    assert (moved != 0).sum(dim=1).tolist() == [2] * len(x)
    assert torch.allclose(moved.abs().amax(dim=1), torch.full((len(x),), 0.25, dtype=x.dtype))
    weight = model[1].weight.detach()
    largest = (weight[0] - weight[1]).abs().topk(2).indices
    assert bool((moved[:, largest] != 0).all())
