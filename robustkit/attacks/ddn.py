"""Decoupled direction and norm: small l2 perturbations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import named
from robustkit.attacks.nearest import Nearest, bisect, cosine, falls, open_rows
from robustkit.contracts import Threat
from robustkit.norms import flat, per_sample, steepest
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class DDN:
    """Decoupled direction and norm (Rony et al. 2019, https://arxiv.org/abs/1811.09600).

    δ ← δ + α ∇/‖∇‖₂ of the cross-entropy, then scaled to the length of the sphere, which shrinks by `gamma` where
    x + δ is adversarial and grows by it where not. α falls from 1 to 0.01 along a cosine.

    Departs from the paper: nothing is rounded to grey levels, and the way back from the nearest point is bisected.

    Fields:
        steps: gradient evaluations.
        gamma: share by which the sphere shrinks and grows.
        radius: of the first sphere, in input units.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x; x itself where nothing was found.
    Cost: `steps` forward and backward passes and 14 forward passes a sample.
    """

    steps: int = param(100, "gradient evaluations", low=1)
    gamma: float = param(0.05, "share by which the sphere changes", low=0, high=1)
    radius: float = param(1.0, "of the first sphere", unit="input units", low=0)
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)

    @torch.no_grad()  # but for the passes that say otherwise
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("ddn", threat, ("l2",))
        nearest = Nearest(x, "l2")
        rows = open_rows(model, x, y, nearest, self.targeted)
        origin, label, current = x[rows], y[rows], x[rows]
        radius = torch.full((len(rows),), self.radius, dtype=x.dtype, device=x.device)
        loss = named("cross_entropy", self.targeted)
        for step in range(self.steps if len(rows) else 0):
            gradient, _, logits = input_gradient(model, current, label, loss)
            hit = falls(logits, label, self.targeted)
            nearest.note(current, hit, rows)
            radius = torch.where(hit, radius * (1 - self.gamma), radius * (1 + self.gamma))
            delta = current - origin + cosine(1, 0.01, step, self.steps) * steepest(gradient, "l2")
            length = flat(delta).norm(dim=1).clamp_min(1e-30)
            current = (origin + delta * per_sample(radius / length, x)).clamp_(0, 1)
        if len(rows):
            nearest.note(current, falls(model(current), label, self.targeted), rows)
        return bisect(model, x, y, nearest, self.targeted)
