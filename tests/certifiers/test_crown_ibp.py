"""Backward bounds: against the exact minimum (closed form, integer program), samples, attacks and interval bounds."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds as Limits
from scipy.optimize import LinearConstraint, milp
from torch import Tensor, nn

from robustkit.attacks.pgd import PGD
from robustkit.certifiers import backward
from robustkit.certifiers.backward import backward_margins
from robustkit.certifiers.bounds import Bounds, Interval, between
from robustkit.certifiers.crown_ibp import CrownIBP
from robustkit.certifiers.interval import IntervalBounds
from robustkit.certifiers.linear import Linear
from robustkit.contracts import Threat
from robustkit.host import default_host
from robustkit.models.normalise import Normalise
from robustkit.models.strided import Strided


def ball(x: Tensor, eps: float) -> Interval:
    return between((x - eps).clamp(0, 1), (x + eps).clamp(0, 1))


def margins(model: nn.Module, inside: Interval, y: Tensor, rounding: float = 0.0) -> Tensor:
    bounds = Bounds(model)
    return backward_margins(bounds, bounds.values(inside, rounding), y, rounding)


def sampled(model: nn.Module, x: Tensor, y: Tensor, eps: float, count: int) -> Tensor:
    """Least margins, (N, K), over points of the ball, half of them corners."""
    inside, least = ball(x, eps), torch.tensor(torch.inf)
    for number in range(count):
        step = 2 * torch.rand_like(x) - 1
        logits = model(inside.center + inside.radius * (step.sign() if number % 2 else step)).double()
        least = torch.minimum(least, logits.gather(1, y[:, None]) - logits)
    return least


def exact_margin(model: nn.Sequential, inside: Interval, first: int, second: int) -> float:
    """The least difference of two logits of a network of linear layers and ReLUs over a box, by an integer program.

    A ReLU h = max(z, 0) of z in [−M, M] with a binary b: h ≥ 0, h ≥ z, h ≤ z + M (1 − b), h ≤ M b.
    """
    big = 100.0
    low, high = (part.flatten().tolist() for part in (inside.low, inside.high))
    whole, rows, least, most = [0] * len(low), [], [], []
    now = list(range(len(low)))  # where the values of this layer stand among all variables

    def new(count: int, floor: float, ceiling: float, integer: int = 0) -> list[int]:
        start = len(low)
        low.extend([floor] * count)
        high.extend([ceiling] * count)
        whole.extend([integer] * count)
        return list(range(start, start + count))

    def row(terms: dict[int, float], floor: float, ceiling: float) -> None:
        rows.append(terms)
        least.append(floor)
        most.append(ceiling)

    for layer in model:
        if isinstance(layer, nn.Linear):
            out = new(layer.out_features, -big, big)
            for place, weights, bias in zip(out, layer.weight.tolist(), layer.bias.tolist(), strict=True):
                row({place: -1.0, **dict(zip(now, weights, strict=True))}, -bias, -bias)
            now = out
        elif isinstance(layer, nn.ReLU):
            out, switches = new(len(now), 0.0, big), new(len(now), 0, 1, 1)
            for h, z, b in zip(out, now, switches, strict=True):
                row({h: 1.0, z: -1.0}, 0.0, np.inf)
                row({h: 1.0, z: -1.0, b: big}, -np.inf, big)
                row({h: 1.0, b: -big}, -np.inf, 0.0)
            now = out
    matrix = np.zeros((len(rows), len(low)))
    for number, terms in enumerate(rows):
        matrix[number, list(terms)] = list(terms.values())
    cost = np.zeros(len(low))
    cost[now[first]] += 1.0
    cost[now[second]] -= 1.0
    found = milp(cost, integrality=whole, bounds=Limits(low, high), constraints=LinearConstraint(matrix, least, most))
    assert found.success
    return float(found.fun)


def tiny(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = (nn.Flatten(), nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    return nn.Sequential(*layers).double()


def gaps(seeds: range, eps: float) -> tuple[Tensor, Tensor]:
    """How far backward and interval bounds lie below the exact least margins of tiny networks."""
    found = []
    for seed in seeds:
        model, x, y = tiny(seed), torch.rand(1, 1, 1, 3, dtype=torch.float64), torch.tensor([seed % 3])
        inside = ball(x, eps)
        exact = torch.tensor([exact_margin(model, inside, seed % 3, other) for other in range(3)])
        found.append((exact - margins(model, inside, y)[0], exact - Bounds(model).margins(inside, y)[0]))
    near, far = zip(*found, strict=True)
    return torch.stack(near), torch.stack(far)


@torch.no_grad()
def test_bounds_lie_below_the_exact_minimum_and_near_it() -> None:
    for eps in (0.05, 0.4):
        near, far = gaps(range(15), eps)
        assert float(near.min()) > -1e-6  # the integer program's tolerance
        assert float(far.min()) > -1e-6
        assert float(near.sum()) < 0.6 * float(far.sum())


@torch.no_grad()
def test_a_line_that_cuts_relu_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: a lower line that is too steep."""
    monkeypatch.setattr(backward, "lower_slope", lambda low, high: torch.full_like(low, 1.5))
    assert float(gaps(range(15), 0.4)[0].min()) < -1e-3


class Affine(nn.Module):
    """Every affine layer and operation there is, with a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise, self.drop = Normalise((0.4, 0.6), (0.25, 0.5), 2), nn.Dropout()
        self.strided = Strided(2, 4, 4, stride=2, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=2)
        self.norm, self.pool = nn.BatchNorm2d(4), nn.AvgPool2d(2, stride=1)
        self.narrow = nn.Conv2d(4, 6, (2, 3), stride=(3, 2), padding=(0, 1), bias=False)
        self.shrink, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.last, self.other = nn.Linear(6, 3), nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.strided(self.normalise(x))
        x = self.norm(self.grouped(x) + x)
        x = self.narrow(self.pool(self.drop(x)))
        logits: Tensor = self.last(self.flat(self.shrink(x))) + self.other(torch.flatten(x.mean(dim=(2, 3)), 1))
        return logits


def test_affine_networks_are_exact() -> None:
    """min over the ball of c · f = c · f(center) − |c · J| · radius."""
    torch.manual_seed(3)
    model = Affine().double().eval()
    with torch.no_grad():
        model.norm.running_mean.uniform_(-0.5, 0.5)
        model.norm.running_var.uniform_(0.5, 2.0)
        model.norm.weight.uniform_(-1.5, 1.5)
        model.norm.bias.uniform_(-0.5, 0.5)
    x, y = torch.rand(2, 2, 9, 8, dtype=torch.float64), torch.tensor([0, 2])
    inside = ball(x, 0.3)
    found = margins(model, inside, y)
    for row in range(2):
        slopes = torch.autograd.functional.jacobian(lambda v: model(v)[0], inside.center[row : row + 1])[:, 0]
        logits = model(inside.center[row : row + 1])[0]
        spread = ((slopes[y[row]] - slopes).abs() * inside.radius[row]).flatten(1).sum(1)
        assert torch.allclose(found[row], logits[y[row]] - logits - spread, atol=1e-9)


def test_linear_network_has_its_exact_radius() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 4)).double()
    x = 0.45 + 0.1 * torch.rand(10, 2, 3, 3, dtype=torch.float64)
    y = torch.zeros(10, dtype=torch.int64)
    exact = Linear(norm="linf")(model, x, y)
    found = CrownIBP(steps=24, top=0.4)(model, x, y)
    assert torch.equal(found.prediction, exact.prediction)
    assert found.radius.tolist() == pytest.approx(exact.radius.clamp_max(0.4).tolist(), abs=1e-6)


def test_two_layers_by_hand() -> None:
    """h = relu(±(x − 0.5)), z = (0.2 − h₁ − h₂, 0): class 0 while |x − 0.5| < 0.2. The chords of both ReLUs add up to
    eps wherever x is, so the bound is exact where interval bounds see half the radius.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[1].bias.copy_(torch.tensor([-0.5, 0.5]))
        model[3].weight.copy_(torch.tensor([[-1.0, -1.0], [0.0, 0.0]]))
        model[3].bias.copy_(torch.tensor([0.2, 0.0]))
    x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    found = CrownIBP(steps=20)(model, x, torch.zeros(1, dtype=torch.int64))
    assert float(found.radius) == pytest.approx(0.2, abs=1e-5)


@torch.no_grad()
def test_bounds_hold_sampled_outputs(residual: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 2, 8, 8)
    y = residual(x).argmax(dim=1)
    found = margins(residual, ball(x.double(), 0.02), y, 2.0**-24)
    least = sampled(residual, x, y, 0.02, 300)
    assert bool((found <= least + 1e-12).all())
    wide = residual(x).double().gather(1, y[:, None]) - residual(x) - found  # what the bounds take off the margins
    assert float(((residual(x).gather(1, y[:, None]) - residual(x) - least) / wide.clamp_min(1e-9)).max()) > 0.1


@torch.no_grad()
def test_a_point_is_its_own_bound(residual: nn.Module) -> None:
    """At radius 0 the bounds are the network; with `rounding`, a little less than float32's errors. Not through max
    pooling, whose upper line is a constant: that is exact at a point, too.
    """
    torch.manual_seed(0)
    x = torch.rand(4, 2, 8, 8)
    single, exact = residual.float()(x).double(), residual.double()(x.double())
    y = exact.argmax(dim=1)
    wanted = exact.gather(1, y[:, None]) - exact
    assert torch.allclose(margins(residual, ball(x.double(), 0.0), y), wanted, atol=1e-12)
    widened = margins(residual, ball(x.double(), 0.0), y, 2.0**-24)
    assert bool((widened <= single.gather(1, y[:, None]) - single).all())
    assert bool((widened <= wanted).all())
    assert float((wanted - widened).max()) < 0.01
    assert float((wanted - widened).max()) > 2.0**-22


@pytest.mark.parametrize("seed", range(2))
def test_more_is_certified_than_by_intervals_and_no_attack_breaks_it(residual: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(20, 2, 8, 8)
    found = CrownIBP()(residual, x, torch.zeros(20, dtype=torch.int64))
    interval = IntervalBounds()(residual, x, torch.zeros(20, dtype=torch.int64))
    y = residual(x).argmax(dim=1)
    assert torch.equal(found.prediction, y)
    assert bool((found.radius >= interval.radius - 1e-9).all())
    assert float(found.radius.mean()) > 1.2 * float(interval.radius.mean())
    for i in range(len(x)):
        threat = Threat("linf", float(found.radius[i]))
        x_adv = PGD(steps=20, restarts=2)(residual, x[i : i + 1], y[i : i + 1], threat)
        assert int(residual(x_adv).argmax()) == int(y[i])


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "lenet5", "resnet18", "preact_resnet18", "wide_resnet"])
@torch.no_grad()
def test_architectures_are_known(name: str) -> None:
    torch.manual_seed(0)
    text = "wide_resnet:depth=10:width=1" if name == "wide_resnet" else name
    model = cast(nn.Module, default_host().build("model", text).value((1, 16, 16), 4)).eval()
    x, y = torch.rand(2, 1, 16, 16), torch.tensor([0, 3])
    found = margins(model, ball(x.double(), 1e-3), y, 2.0**-24)
    assert bool((found <= sampled(model, x, y, 1e-3, 10)).all())
    assert found.gather(1, y[:, None]).flatten().tolist() == [0.0, 0.0]
    assert bool(found.isfinite().all())


def test_no_inputs(residual: nn.Module) -> None:
    found = CrownIBP()(residual, torch.zeros(0, 2, 8, 8), torch.zeros(0, dtype=torch.int64))
    assert found.radius.shape == (0,)
