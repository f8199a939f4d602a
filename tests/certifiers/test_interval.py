"""Interval bounds: against closed forms, sampled outputs, attacks, and every architecture that is built in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.pgd import PGD
from robustkit.certifiers.bounds import Bounds, Interval, between
from robustkit.certifiers.interval import IntervalBounds
from robustkit.certifiers.linear import Linear
from robustkit.contracts import Threat
from robustkit.host import default_host
from robustkit.params import UsageError


def ball(x: Tensor, eps: float) -> Interval:
    return between((x - eps).clamp(0, 1), (x + eps).clamp(0, 1))


def sampled(x: Tensor, eps: float, count: int) -> Tensor:
    """Points of the ball, half of them corners, (count · N, ...)."""
    inside = ball(x, eps)
    parts = []
    for number in range(count):
        step = 2 * torch.rand_like(x) - 1
        parts.append(inside.center + inside.radius * (step.sign() if number % 2 else step))
    return torch.cat(parts)


@torch.no_grad()
def test_bounds_hold_sampled_outputs(residual: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 2, 8, 8)
    bounds = Bounds(residual)
    logits = bounds.logits(ball(x.double(), 0.02), 2.0**-24)
    outputs = residual(sampled(x, 0.02, 300)).reshape(300, 6, 3).double()
    assert bool((outputs >= logits.low).all())
    assert bool((outputs <= logits.high).all())
    reached = (outputs.amax(dim=0) - outputs.amin(dim=0)) / (logits.high - logits.low)
    assert float(reached.max()) > 0.1  # they are not infinitely wide
    y = outputs[0].argmax(dim=1)
    margins = bounds.margins(ball(x.double(), 0.02), y, 2.0**-24)
    own = outputs.gather(2, y.expand(300, 6)[..., None])
    assert bool((own - outputs >= margins - 1e-12).all())


@torch.no_grad()
def test_a_point_is_its_own_bound(residual: nn.Module) -> None:
    """At radius 0 the bounds are the network; with `rounding`, a little more than float32's errors."""
    x = torch.rand(4, 2, 8, 8)
    exact = residual.double()(x.double())
    found = Bounds(residual).logits(ball(x.double(), 0.0))
    assert torch.allclose(found.center, exact, atol=1e-12)
    assert float(found.radius.max()) < 1e-12
    single = residual.float()(x)
    widened = Bounds(residual).logits(ball(x.double(), 0.0), 2.0**-24)
    assert bool(((single.double() - widened.center).abs() <= widened.radius).all())
    assert 0 < float(widened.radius.max()) < 0.01


def test_linear_network_has_its_exact_radius() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 4)).double()
    x = 0.45 + 0.1 * torch.rand(10, 2, 3, 3, dtype=torch.float64)
    y = torch.zeros(10, dtype=torch.int64)
    exact = Linear(norm="linf")(model, x, y)
    found = IntervalBounds(steps=24, top=0.4)(model, x, y)
    assert torch.equal(found.prediction, exact.prediction)
    assert found.radius.tolist() == pytest.approx(exact.radius.clamp_max(0.4).tolist(), abs=1e-6)


def test_two_layers_by_hand() -> None:
    """h = relu(±(x − 0.5)), z = (0.2 − h₁ − h₂, 0): class 0 while |x − 0.5| < 0.2; of both h IBP knows up to eps."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[1].bias.copy_(torch.tensor([-0.5, 0.5]))
        model[3].weight.copy_(torch.tensor([[-1.0, -1.0], [0.0, 0.0]]))
        model[3].bias.copy_(torch.tensor([0.2, 0.0]))
    x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    found = IntervalBounds(steps=20)(model, x, torch.zeros(1, dtype=torch.int64))
    assert float(found.radius) == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_no_attack_breaks_what_is_certified(residual: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(30, 2, 8, 8)
    found = IntervalBounds()(residual, x, torch.zeros(30, dtype=torch.int64))
    y = residual(x).argmax(dim=1)
    assert torch.equal(found.prediction, y)
    assert float(found.radius.max()) > 1e-3
    for i in range(len(x)):
        threat = Threat("linf", float(found.radius[i]))
        x_adv = PGD(steps=20, restarts=2)(residual, x[i : i + 1], y[i : i + 1], threat)
        assert int(residual(x_adv).argmax()) == int(y[i])


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "lenet5", "resnet18", "preact_resnet18", "wide_resnet"])
@torch.no_grad()
def test_architectures_are_known(name: str) -> None:
    torch.manual_seed(0)
    text = "wide_resnet:depth=10:width=1" if name == "wide_resnet" else name
    model = default_host().build("model", text).value((1, 16, 16), 4).eval()
    x = torch.rand(2, 1, 16, 16)
    found = Bounds(model).logits(ball(x.double(), 1e-3))
    outputs = model(sampled(x, 1e-3, 10)).reshape(10, 2, 4).double()
    assert bool((outputs >= found.low - 1e-4).all())
    assert bool((outputs <= found.high + 1e-4).all())


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Softmax(dim=1)), "don't know Softmax"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode"),
        (nn.BatchNorm2d(1, track_running_stats=False), "running statistics"),
        (Branching(), "branches"),
    ],
)
def test_unknown_layers_are_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Bounds(model.eval()).logits(ball(torch.rand(1, 1, 4, 4), 0.1))


def test_no_inputs(residual: nn.Module) -> None:
    found = IntervalBounds()(residual, torch.zeros(0, 2, 8, 8), torch.zeros(0, dtype=torch.int64))
    assert found.radius.shape == (0,)
