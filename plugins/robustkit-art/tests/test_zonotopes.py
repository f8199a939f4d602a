"""RobustKit's backward bounds against ART's zonotopes (DeepZ)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.certifiers import backward
from robustkit.certifiers.backward import backward_margins
from robustkit.certifiers.bounds import Bounds, Interval


def zonotope_margins(first: nn.Linear, second: nn.Linear, inside: Interval, label: int) -> Tensor:
    """The least differences of logits over a box, (K,), by ART."""
    from art.estimators.certification.deep_z.deep_z import ZonoBounds, ZonoDenseLayer, ZonoReLU

    zonotope = torch.cat([inside.center, torch.diag(inside.radius[0])])
    difference = nn.Linear(second.in_features, second.out_features)
    with torch.no_grad():
        difference.weight.copy_(second.weight[label] - second.weight)
        difference.bias.copy_(second.bias[label] - second.bias)
    for layer in (first, None, difference):
        if layer is None:
            zonotope = ZonoReLU()(zonotope).float()
            continue
        dense = ZonoDenseLayer(layer.in_features, layer.out_features)
        dense.weight, dense.bias = layer.weight, layer.bias
        zonotope = dense(zonotope.clone())
    return ZonoBounds.compute_lb(cent=zonotope[0], eps=zonotope[1:])


@torch.no_grad()
@pytest.mark.parametrize("eps", [0.02, 0.2, 1.0])
def test_with_the_zonotope_s_lower_line_bounds_are_equal(monkeypatch: pytest.MonkeyPatch, eps: float) -> None:
    """DeepZ's lower line has the chord's slope; with one hidden layer nothing else differs."""

    def chord(low: Tensor, high: Tensor) -> Tensor:
        return (high / (high - low)).clamp(0, 1)

    monkeypatch.setattr(backward, "lower_slope", chord)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 4))
    bounds = Bounds(model)
    for number in range(10):
        inside = Interval(torch.randn(1, 6), eps * torch.rand(1, 6))
        y = torch.tensor([number % 4])
        found = backward_margins(bounds, bounds.values(inside), y)[0]
        art = zonotope_margins(model[0], model[2], inside, number % 4)
        assert torch.allclose(found, art, atol=1e-4)
