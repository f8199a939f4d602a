"""Interval bound propagation: a deterministic certificate for ReLU networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.certifiers.bounds import Bounds, Interval, between
from robustkit.contracts import Certificate
from robustkit.norms import per_sample
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class IntervalBounds:
    """Interval bound propagation (Gowal et al. 2018, https://arxiv.org/abs/1810.12715).

    Every layer's values are enclosed in intervals that start as the pixels of the linf ball inside [0, 1]; where the
    predicted logit is above all others over the last of them, the prediction holds in the whole ball. The
    radius is the largest for which that is so, by bisection (bounds grow with the ball): it is
    at most top / 2^steps below it. Bounds are loose but for networks trained for them, as by `ibp_at`.

    Guarantee: for each input, always, the network itself predicts the same class on every input of [0, 1] within
    `radius` in linf. Bounds are computed in float64 and widened by what float32 sums may err in any order, so they
    hold for the network as executed in float32, unless the device multiplies in a lower precision or convolves by
    transforms (Winograd, FFT).

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) is not read. Networks: sequential and residual, of linear
    layers, convolutions, BatchNorm, ReLU, pooling, Flatten, sums and normalisation; UsageError for others.
    Cost: 2 forward passes in float64 for each of steps + 1 radii, and one in float32.
    """

    steps: int = param(14, "halvings of the interval in which the radius is searched", low=1, high=40)
    top: float = param(0.5, "largest radius that is tried", unit="input units", low=1e-6, high=1.0)
    batch_size: int = param(200, "inputs a pass", low=1)

    def __post_init__(self) -> None:
        check(self)

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
        bounds = Bounds(model)
        return certified(model, x, bounds.margins, steps=self.steps, top=self.top, batch_size=self.batch_size)


Margins = Callable[[Interval, Tensor, float], Tensor]
"""Intervals of the inputs, classes (N,) and a unit roundoff → lower bounds of each class's margins, (N, K)."""


def certified(model: nn.Module, x: Tensor, margins: Margins, *, steps: int, top: float, batch_size: int) -> Certificate:
    """The largest radii for which all margins of the predicted class are found to be positive, by bisection."""
    predictions = [x.new_zeros(0, dtype=torch.int64)]
    radii = [x.new_zeros(0, dtype=torch.float64)]
    for part in torch.split(x, batch_size) if len(x) else ():
        predictions.append(model(part).argmax(dim=1))
        radii.append(_radius(margins, part.double(), predictions[-1], torch.finfo(x.dtype).eps / 2, steps, top))
    return Certificate(
        prediction=torch.cat(predictions),
        radius=torch.cat(radii),
        norm="linf",
        guarantee="Always: the network predicts the same class on every input of [0, 1] within the radius.",
    )


def _radius(margins: Margins, x: Tensor, predicted: Tensor, rounding: float, steps: int, top: float) -> Tensor:
    """(N,) the largest radius that is proved; 0 where not even the input itself is."""

    def proved(radius: Tensor) -> Tensor:
        ball = between((x - per_sample(radius, x)).clamp(0, 1), (x + per_sample(radius, x)).clamp(0, 1))
        return margins(ball, predicted, rounding).scatter(1, predicted[:, None], torch.inf).amin(dim=1) > 0

    low, high = x.new_zeros(len(x)), x.new_full((len(x),), top)
    low = torch.where(proved(high), high, low)
    for _ in range(steps):
        middle = (low + high) / 2
        good = proved(middle)
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return low
