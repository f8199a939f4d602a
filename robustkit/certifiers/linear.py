"""The exact radius of a linear classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.linear_exact import affine, require_affine
from robustkit.contracts import Certificate, Norm
from robustkit.norms import flat
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class Linear:
    """The distance to the nearest boundary of logits W x + b, in closed form.

    The margin to class c falls by at most ‖w_y − w_c‖* in a ball of radius 1, the dual norm (l1 for linf, l2 for
    l2, linf for l1), so the radius is min over c of margin / dual norm. In l0 it is the largest number of values
    whose moves to the ends of [0, 1] don't use the margin up. The other norms don't see the box; inside
    it the true radius may be larger.

    Guarantee: for each input, always, the network predicts the same class within `radius`. Before it is divided the
    margin is lowered by what sums of D products in the precision of the network may err in any order,
    2 (D + 2) u max over classes of (Σ|w| + |b|), so the promise holds for the network as executed.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) is not read.
    Errors: UsageError where the model is not affine at the inputs.
    Cost: K backward passes of one sample, and a forward pass a sample.
    """

    norm: Norm = param("linf", "of the radius")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
        prediction, radius = x.new_zeros(len(x), dtype=torch.int64), x.new_zeros(len(x), dtype=torch.float64)
        if len(x):
            weight, bias = affine(model, x)
            require_affine(model, x, weight, bias, "linear", "interval or smoothing")
            prediction, radius = self._certified(weight, bias, flat(x).double(), torch.finfo(x.dtype).eps / 2)
        return Certificate(
            prediction=prediction,
            radius=radius,
            norm=self.norm,
            guarantee="Always: the network predicts the same class within the radius"
            + (", which is exact but for rounding." if self.norm != "l0" else " and inside [0, 1]; it is exact."),
        )

    def _certified(self, weight: Tensor, bias: Tensor, x: Tensor, roundoff: float) -> tuple[Tensor, Tensor]:
        """(N,) class and radius; W (K, D), b (K,), x (N, D), all float64."""
        logits = x @ weight.T + bias  # (N, K)
        predicted = logits.argmax(dim=1)
        slack = 2 * (x.shape[1] + 2) * roundoff * (weight.abs().sum(dim=1) + bias.abs()).amax()
        radius = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        for rival in range(len(weight)):
            normal = weight[predicted] - weight[rival]  # (N, D)
            margin = (logits.gather(1, predicted[:, None])[:, 0] - logits[:, rival] - slack).clamp_min(0)
            reach = self._reach(normal, margin, x)
            radius = torch.where(predicted == rival, radius, torch.minimum(radius, reach))
        return predicted, radius

    def _reach(self, normal: Tensor, margin: Tensor, x: Tensor) -> Tensor:
        """(N,) how far ⟨normal, δ⟩ > −margin holds; infinite where nothing moves it."""
        if self.norm == "l0":
            losses = torch.where(normal > 0, normal * x, normal * (x - 1))  # the most that one value takes off
            spent = losses.sort(dim=1, descending=True).values.cumsum(dim=1)
            return (spent < margin[:, None]).sum(dim=1).double()
        order = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}[self.norm]
        length = torch.linalg.vector_norm(normal, ord=order, dim=1)
        return torch.where(length > 0, margin / length, torch.inf)
