from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from robustkit.attacks.bim import BIM
from robustkit.attacks.losses import cross_entropy
from robustkit.attacks.mifgsm import MIFGSM
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, project

Make = Callable[..., Any]


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_the_formula_of_the_paper(untrained: Make, decay: float) -> None:
    """g ← μ g + ∇ / ‖∇‖₁ by sample, x ← x + (ε / T) sign(g); in a ball so small that nothing falls."""
    model, x, y = untrained((6, 3, 7, 7), dtype=torch.float64)
    x = 0.2 + 0.6 * x  # away from the box
    y = model(x).argmax(dim=1)
    eps, steps = 1e-4, 6
    found = MIFGSM(steps=steps, decay=decay)(model, x, y, Threat("linf", eps))
    point, momentum = x, torch.zeros_like(x)
    iterates, losses = [], []
    for step in range(steps + 1):
        point = point.detach().requires_grad_()
        loss = cross_entropy(model(point), y)
        iterates.append(point.detach())
        losses.append(loss.detach())
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        momentum = decay * momentum + gradient / gradient.flatten(1).norm(p=1, dim=1)[:, None, None, None]
        point = project(point.detach() + eps / steps * momentum.sign(), x, Threat("linf", eps))
    best = torch.stack(losses).argmax(dim=0)
    expected = torch.stack(iterates)[best, torch.arange(len(x))]
    assert float((found - expected).abs().max()) <= 1e-12
    assert int((best == steps).sum()) >= 4  # mostly the last iterate, which the whole momentum has shaped


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_momentum_it_is_bim(untrained: Make, norm: Norm) -> None:
    model, x, y = untrained((8, 3, 6, 6))
    threat = Threat(norm, {"linf": 0.02, "l2": 0.2, "l1": 1.0}[norm])
    bim = BIM(steps=5, step_size=threat.eps / 5)
    assert torch.equal(MIFGSM(steps=5, decay=0.0)(model, x, y, threat), bim(model, x, y, threat))


def test_momentum_belongs_to_each_sample(untrained: Make) -> None:
    """A sample with a gradient a million times larger does not drown the others."""
    model, x, y = untrained((4, 1, 6, 6), dtype=torch.float64)
    loud = model[-1]
    together = MIFGSM(steps=5)(model, x, y, Threat("linf", 0.01))
    with torch.no_grad():
        loud.weight *= 0.001  # all gradients shrink; directions stay nearly the same
    quiet = MIFGSM(steps=5)(model, x[:1], model(x[:1]).argmax(dim=1), Threat("linf", 0.01))
    assert quiet.shape == together[:1].shape
    alone = torch.cat([MIFGSM(steps=5)(model, x[i : i + 1], y[i : i + 1], Threat("linf", 0.01)) for i in range(4)])
    assert torch.allclose(alone, MIFGSM(steps=5)(model, x, y, Threat("linf", 0.01)), atol=1e-9)


def test_polish_keeps_the_better_and_stays_in_the_ball(trained: Any) -> None:
    threat = Threat("linf", 0.08)
    x, y = trained.x[:80], trained.y[:80]
    attack = MIFGSM()
    rough = project((attack(trained.model, x, y, threat) * 256).round() / 256, x, threat)
    better = attack.polish(trained.model, x, rough, y, threat)
    before, after = (cross_entropy(trained.model(z), y) for z in (rough, better))
    assert bool((after >= before - 1e-6).all())
    assert bool((after > before).any())
    assert bool((distance(better.double(), x.double(), "linf") <= threat.allowance).all())
