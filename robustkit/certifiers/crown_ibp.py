"""CROWN-IBP: a deterministic certificate for ReLU networks, tighter than interval bounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.certifiers.backward import backward_margins
from robustkit.certifiers.bounds import Bounds, Interval
from robustkit.certifiers.interval import certified
from robustkit.contracts import Certificate
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class CrownIBP:
    """Backward bounds through interval bounds (Zhang et al. 2020, https://arxiv.org/abs/1906.06316).

    Every margin of the predicted logit is traced back to a linear function of the pixels that lies below it in the
    whole linf ball inside [0, 1] (CROWN, Zhang et al. 2018, https://arxiv.org/abs/1811.00866); what a ReLU may be
    given comes from interval bounds. A margin's bound is the better one of this and of `interval`. The radius is found
    by bisection: what is told has been proved, a larger one may hold, for backward bounds don't always fall as the
    ball grows.

    Guarantee: for each input, always, the network itself predicts the same class on every input of [0, 1] within
    `radius` in linf. Bounds are computed in float64 and widened at every layer by what float32 sums may err in any
    order, so they hold for the network as executed in float32, unless the device multiplies in a lower precision or
    convolves by transforms (Winograd, FFT).

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) is not read. Networks: those of `interval`; UsageError for others.
    Cost: in float64, for each of steps + 1 radii, 4 forward passes and a backward pass of K − 1 rows an input; one
    forward pass in float32. Memory: (K − 1) · batch_size times the largest layer, twice.
    """

    steps: int = param(14, "halvings of the interval in which the radius is searched", low=1, high=40)
    top: float = param(0.5, "largest radius that is tried", unit="input units", low=1e-6, high=1.0)
    batch_size: int = param(50, "inputs a pass", low=1)

    def __post_init__(self) -> None:
        check(self)

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
        bounds = Bounds(model)

        def margins(ball: Interval, predicted: Tensor, rounding: float) -> Tensor:
            values = bounds.values(ball, rounding)
            forward = bounds.margins_of(values, predicted, rounding)
            return torch.maximum(forward, backward_margins(bounds, values, predicted, rounding))

        return certified(model, x, margins, steps=self.steps, top=self.top, batch_size=self.batch_size)
