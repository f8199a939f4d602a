from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from robustkit.attacks.losses import cross_entropy
from robustkit.attacks.rfgsm import RFGSM
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance
from robustkit.params import UsageError

Make = Callable[..., Any]


@pytest.mark.parametrize("alpha", [None, 0.01, 0.03])
def test_the_formula_of_the_paper(untrained: Make, alpha: float | None) -> None:
    """x' = x + α sign(N(0, I)); x_adv = x' + (ε − α) sign(∇ at x')."""
    model, x, y = untrained((9, 3, 6, 6), dtype=torch.float64)
    eps, length = 0.03, 0.015 if alpha is None else alpha
    torch.manual_seed(5)
    found = RFGSM(alpha=alpha)(model, x, y, Threat("linf", eps))
    torch.manual_seed(5)
    start = (x + length * torch.randn_like(x).sign()).clamp(0, 1).requires_grad_()
    logits = model(start)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, y).sum(), start)
    expected = (start + (eps - length) * gradient.sign()).clamp(0, 1).detach()
    stands = logits.argmax(dim=1) == y
    assert bool(stands.any())
    assert torch.allclose(found[stands], expected[stands], atol=1e-12)
    assert torch.allclose(found[~stands], start[~stands], atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_a_second_step_it_is_the_random_one(linear: Make, norm: Norm) -> None:
    model, x, y = linear(samples=200)
    torch.manual_seed(0)
    found = RFGSM(alpha=0.1)(model, x, y, Threat(norm, 0.1))
    assert torch.allclose(distance(found, x, norm), torch.full((200,), 0.1, dtype=x.dtype))
    assert float((found - x).mean().abs()) <= 0.01  # no direction is preferred


def test_a_random_step_beyond_the_ball_is_refused(linear: Make) -> None:
    model, x, y = linear()
    with pytest.raises(UsageError, match=r"rfgsm:alpha=0.2 is larger than eps=0.1"):
        RFGSM(alpha=0.2)(model, x, y, Threat("linf", 0.1))
