"""The linear certifier against closed forms, and against the exact attack at both sides of its radius."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.linear_exact import LinearExact
from robustkit.certifiers.linear import Linear
from robustkit.contracts import Norm, Threat
from robustkit.models.normalise import Normalise, Normalised
from robustkit.params import UsageError
from robustkit.testing.yardstick import yardstick

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")


def affine(weight: Tensor, bias: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.mark.parametrize("norm", NORMS)
def test_yardstick(norm: Norm) -> None:
    ruler = yardstick(norm)
    found = Linear(norm=norm)(ruler.model, ruler.x, ruler.y)
    assert torch.equal(found.prediction, ruler.y)
    exact = ruler.margin - 1 if norm == "l0" else ruler.margin  # one value fewer than what breaks it
    assert bool((found.radius <= exact * (1 + 1e-9)).all())
    assert found.radius.tolist() == pytest.approx([exact] * len(ruler.x), rel=2e-3)


def test_two_classes_by_hand() -> None:
    """w = (3, -4), margin 1.1 at (0.5, 0.1): over ‖w‖₁ = 7, ‖w‖₂ = 5, ‖w‖∞ = 4."""
    model = affine(torch.tensor([[3.0, -4.0], [0.0, 0.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    x = torch.tensor([[[[0.5, 0.1]]]], dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.int64)
    for norm, length in (("linf", 7.0), ("l2", 5.0), ("l1", 4.0)):
        found = Linear(norm=norm)(model, x, y)  # type: ignore[arg-type]
        assert float(found.radius) == pytest.approx(1.1 / length, rel=1e-12)
    assert float(Linear(norm="l0")(model, x, y).radius) == 0  # setting the first value to 0 takes 1.5 off


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_radius_is_where_the_exact_attack_begins_to_win(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(27, 5))
    with torch.no_grad():
        network[1].weight.copy_(0.2 * torch.randn(5, 27, generator=generator))
    model = Normalised(Normalise((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 3), network).eval()
    x = 0.4 + 0.2 * torch.rand(20, 3, 3, 3, generator=generator)
    y = model(x).argmax(dim=1)
    radius = Linear(norm=norm)(model, x, y).radius
    for i in range(len(x)):
        one, label = x[i : i + 1], y[i : i + 1]
        below = LinearExact()(model, one, label, Threat(norm, min(0.999 * float(radius[i]), 1.0)))
        assert int(model(below).argmax()) == int(label)
        if float(radius[i]) < 0.3:  # the box does not bind
            above = LinearExact()(model, one, label, Threat(norm, 1.02 * float(radius[i]) + 1e-4))
            assert int(model(above).argmax()) != int(label)


def test_constant_network_is_never_moved() -> None:
    model = affine(torch.zeros(3, 4, dtype=torch.float64), torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64))
    found = Linear(norm="l2")(model, torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.ones(1, dtype=torch.int64))
    assert found.prediction.tolist() == [1]
    assert found.radius.tolist() == [torch.inf]


def test_other_networks_are_refused() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(UsageError, match="linear needs a model that is affine"):
        Linear()(model, torch.rand(16, 1, 2, 2), torch.zeros(16, dtype=torch.int64))


def test_no_inputs() -> None:
    model = affine(torch.ones(2, 4, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    assert Linear()(model, torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64)).radius.shape == (0,)
