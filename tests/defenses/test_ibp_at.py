"""ibp_at: its loss against the closed form of a linear network and against attacks, and what it learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustkit.certifiers.bounds import Bounds
from robustkit.certifiers.interval import IntervalBounds
from robustkit.contracts import Data, Recipe, Threat, Training
from robustkit.defenses.ibp_at import IBPAT, bounded_loss
from robustkit.params import UsageError


def small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, 3))


def test_loss_of_a_linear_network_is_its_worst_case() -> None:
    """m_c = z_y − z_c − eps ‖w_y − w_c‖₁ where the box does not bind."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3)).double()
    x, y = 0.4 + 0.2 * torch.rand(5, 2, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    logits, weight = model(x), model[1].weight
    lengths = (weight[y][:, None] - weight).abs().sum(dim=2)
    worst = logits - logits.gather(1, y[:, None]) + 0.1 * lengths
    found = bounded_loss(Bounds(model), x, y, 0.1).item()
    assert found == pytest.approx(F.cross_entropy(worst, y).item(), rel=1e-9)


@pytest.mark.parametrize("backward", [0.0, 0.4, 1.0])
def test_loss_is_at_least_what_any_point_of_the_ball_has(backward: float) -> None:
    torch.manual_seed(0)
    model, x, y = small(), torch.rand(6, 2, 6, 6), torch.arange(6) % 3
    bound = bounded_loss(Bounds(model), x, y, 0.05, backward).item()
    for _ in range(50):
        near = (x + 0.05 * (2 * torch.rand_like(x) - 1).sign()).clamp(0, 1)
        assert F.cross_entropy(model(near), y).item() <= bound


@pytest.mark.parametrize("backward", [0.0, 0.4, 1.0])
def test_gradients_reach_all_weights(backward: float) -> None:
    model = small()
    bounded_loss(Bounds(model), torch.rand(6, 2, 6, 6), torch.arange(6) % 3, 0.05, backward).backward()
    assert all(p.grad.abs().sum().item() > 0 for p in model.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in model.parameters())


def test_gradients_are_those_of_the_loss() -> None:
    """Against finite differences, in float64."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double()
    x, y = torch.rand(2, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 2])
    bounds, weight = Bounds(model), model[0].weight
    loss = bounded_loss(bounds, x, y, 0.05, 0.7)
    (found,) = torch.autograd.grad(loss, weight)
    direction = torch.randn_like(weight)
    with torch.no_grad():
        values = []
        for step in (1e-6, -2e-6):
            weight += step * direction
            values.append(bounded_loss(bounds, x, y, 0.05, 0.7).item())
    assert (found * direction).sum().item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_schedule_of_radius_and_weights(monkeypatch: pytest.MonkeyPatch, bars: Data) -> None:
    """First the classes; then the radius rises as backward bounds fade; then interval bounds alone."""
    asked: list[tuple[float, float]] = []

    def noted(bounds: Bounds, x: torch.Tensor, y: torch.Tensor, eps: float, backward: float) -> torch.Tensor:
        asked.append((eps, backward))
        return bounded_loss(bounds, x, y, eps, backward)

    monkeypatch.setattr("robustkit.defenses.ibp_at.bounded_loss", noted)
    recipe = Recipe(epochs=10, batch_size=len(bars.train), optimizer="adam", lr=0.001, ramp=0.5)
    for how, weights in ((IBPAT(warmup=0.3), [6 / 7, 4 / 7, 2 / 7]), (IBPAT(warmup=0.3, bound="ibp"), [0.0] * 3)):
        asked.clear()
        how(small(), bars, Training(threat=Threat("linf", 0.1), recipe=recipe, precision="fp32"))
        assert [eps for eps, _ in asked] == pytest.approx([0.1 / 7, 0.3 / 7, 0.5 / 7] + [0.1] * 6)
        assert [backward for _, backward in asked] == pytest.approx(weights + [0.0] * 6)


def test_it_certifies_more_than_ordinary_training(bars: Data) -> None:
    recipe = Recipe(
        epochs=40, batch_size=16, optimizer="adam", lr=0.005, schedule="constant", ramp=0.5, weight_decay=0.0
    )
    x, y = bars.test.batch(torch.arange(48))
    medians = []
    for kappa in (1.0, 0.5):
        training = Training(threat=Threat("linf", 0.12), recipe=recipe, precision="fp32")
        found = IntervalBounds()(IBPAT(kappa=kappa)(small(), bars, training), x, y)
        assert float((found.prediction == y).float().mean()) > 0.9
        medians.append(float(found.radius.median()))
    assert medians[1] > 1.05 * medians[0] > 0.05


def test_other_norms_are_refused(bars: Data) -> None:
    with pytest.raises(UsageError, match="ibp_at trains for linf"):
        IBPAT()(small(), bars, Training(threat=Threat("l2", 0.5), recipe=Recipe(epochs=1)))
