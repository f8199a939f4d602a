"""Fast minimum-norm attack, in every norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import named
from robustkit.attacks.nearest import Nearest, bisect, cosine, falls, onto_ball, open_rows, sure
from robustkit.contracts import NORMS, Norm, Threat
from robustkit.norms import distance, flat, steepest
from robustkit.params import check, param

_DUAL: dict[Norm, float] = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}
_STEP: dict[Norm, float] = {"linf": 10.0, "l2": 1.0, "l1": 1.0, "l0": 1.0}


@dataclass(frozen=True, kw_only=True)
class FMN:
    """Fast minimum-norm attack (Pintor et al. 2021, https://arxiv.org/abs/2102.12827).

    δ ← Π(δ + α ∇/‖∇‖₂) of the margin, Π the projection onto a ball and then the box. While nothing was found the
    ball's radius is the distance to the linearised boundary; from then on it grows by γ where x + δ stands, and shrinks
    by γ, to at most the distance of the nearest point found, where it falls. α falls from `step_size` to a
    hundredth, γ from `gamma` to 1e-4, along cosines. In l0 the radius is a whole number and changes by at least 1.

    Departs from the paper: values at the end of the box, where the gradient would take them out, count as fixed, in the
    step and in the distance to the boundary (else radii come out too small for the boundary to be met), and the
    way back from the nearest point is bisected. In l0, without these two, the changes kept are those that gain most to
    first order, not the largest.

    Fields:
        steps: gradient evaluations.
        step_size: first length of a step, in l2 whatever the norm. None: 10 in linf, 1 in the others.
        gamma: first share by which the radius changes.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x; x itself where nothing was found.
    Cost: `steps` forward and backward passes and 14 forward passes a sample.
    """

    steps: int = param(100, "gradient evaluations", low=1)
    step_size: float | None = param(
        None, "first length of a step, in l2; none: 10 in linf, 1 in the others", unit="input units", low=0
    )
    gamma: float = param(0.05, "first share by which the radius changes", low=0, high=1)
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)

    @torch.no_grad()  # but for the passes that say otherwise
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("fmn", threat, NORMS)
        norm = threat.norm
        nearest = Nearest(x, norm)
        rows = open_rows(model, x, y, nearest, self.targeted)
        origin, label, current = x[rows], y[rows], x[rows]
        radius = torch.full((len(rows),), 1.0 if norm == "l0" else torch.inf, dtype=x.dtype, device=x.device)
        loss = named("margin", self.targeted)
        length = _STEP[norm] if self.step_size is None else self.step_size
        for step in range(self.steps if len(rows) else 0):
            gradient, values, logits = input_gradient(model, current, label, loss)
            stuck = ((gradient > 0) & (current >= 1)) | ((gradient < 0) & (current <= 0))
            gradient = gradient if norm == "l0" else gradient.masked_fill(stuck, 0)
            hit = falls(logits, label, self.targeted)
            nearest.note(current, hit, rows)
            gamma = cosine(self.gamma, 1e-4, step, self.steps)
            far = distance(current, origin, norm)
            short = (2 * sure(logits) - values).to(x.dtype)  # of a lead that counts
            radius = _changed(radius, hit, far, nearest.distance[rows], gradient, short, gamma, norm)
            alpha = cosine(length, length / 100, step, self.steps)
            moved = current + alpha * steepest(gradient, "l2")
            if norm == "l0":  # what gains most is kept, within the box
                gains = (moved.clamp_(0, 1) - origin) * gradient
                current = torch.where(onto_ball(gains, radius, norm) != 0, moved, origin)
            else:
                current = (origin + onto_ball(moved - origin, radius, norm)).clamp_(0, 1)
        if len(rows):
            nearest.note(current, falls(model(current), label, self.targeted), rows)
        return nearest.points if norm == "l0" else bisect(model, x, y, nearest, self.targeted)


def _changed(
    radius: Tensor,
    hit: Tensor,
    far: Tensor,
    nearest: Tensor,
    gradient: Tensor,
    short: Tensor,
    gamma: float,
    norm: Norm,
) -> Tensor:
    """The next radius, (N,): of the point at distance `far`, `short` of falling, and the nearest one that fell."""
    if norm == "l0":
        shrunk = torch.minimum(torch.minimum(radius - 1, (radius * (1 - gamma)).floor()), nearest)
        grown = torch.maximum(radius + 1, (radius * (1 + gamma)).floor())
        return torch.where(hit, shrunk, grown).clamp_min(1)
    shrunk = torch.minimum(radius * (1 - gamma), nearest)
    slope = torch.linalg.vector_norm(flat(gradient), _DUAL[norm], dim=1).clamp_min(1e-12)
    boundary = far + short.clamp_min(0) / slope
    return torch.where(hit, shrunk, torch.where(nearest.isfinite(), radius * (1 + gamma), boundary))
