"""DeepFool: to the nearest boundary of the linearised model, again and again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import reached
from robustkit.attacks.nearest import Nearest, bisect, falls, open_rows
from robustkit.contracts import Norm, Threat
from robustkit.norms import per_sample
from robustkit.params import UsageError, check, param

_TINY = 1e-12
_BEYOND = 1e-4
"""Added to a step, relative to the largest logit, so that it crosses the boundary it reaches."""


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """DeepFool (Moosavi-Dezfooli et al. 2016, https://arxiv.org/abs/1511.04599).

    With w_k the gradient of z_k − z_y it steps to the class k whose linearised boundary is nearest: r = |z_k − z_y|
    w_k / ‖w_k‖₂² in l2, |z_k − z_y| sign(w_k) / ‖w_k‖₁ in linf; the result is (1 + overshoot) times the sum of steps.

    Departs from the paper: values at the end of the box, where a step would leave it, count as fixed (otherwise it
    stalls on images with many zeros), and the way back from the nearest point is bisected.

    Fields:
        steps: linearisations.
        candidates: likeliest wrong classes looked at.
        overshoot: share by which the boundary is overstepped.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels; returns like x; x itself where nothing was found.
    Cost: at most steps · (2 forward and `candidates` backward passes) and 14 forward passes a sample; samples
    that have fallen are left alone.
    """

    steps: int = param(50, "linearisations", low=1)
    candidates: int = param(9, "likeliest wrong classes looked at", low=1)
    overshoot: float = param(0.02, "share by which the boundary is overstepped", low=0)

    def __post_init__(self) -> None:
        check(self)

    @torch.no_grad()  # but for the passes that say otherwise
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("deepfool", threat, ("linf", "l2"))
        nearest = Nearest(x, threat.norm)
        rows = open_rows(model, x, y, nearest, targeted=False)
        origin, label, current = x[rows], y[rows], x[rows]
        for _ in range(self.steps):
            if not len(rows):
                break
            lead, slopes, logits = linearised(model, current, label, self.candidates)
            lead = lead + _BEYOND * logits.abs().amax(dim=1, keepdim=True)
            step = _to_the_nearest(current, lead, slopes, threat.norm)
            current = (current + step).clamp_(0, 1)
            points = (origin + (1 + self.overshoot) * (current - origin)).clamp_(0, 1)
            logits = model(points)
            nearest.note(points, falls(logits, label, targeted=False), rows)
            open_ = ~(reached(logits, label, targeted=False) & nearest.distance[rows].isfinite())
            rows, origin, label, current = rows[open_], origin[open_], label[open_], current[open_]
        return bisect(model, x, y, nearest, targeted=False)


def linearised(model: nn.Module, x: Tensor, y: Tensor, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """z_y − z_k (N, k) of the likeliest other classes, gradients of z_k − z_y (k, N, ...), and all logits (N, K).

    One forward pass, and a backward pass for each class: those that one batched call would make at once too,
    but counted each by each.

    Raises:
        UsageError: the output has no gradient.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits: Tensor = model(x)
        if not logits.requires_grad:
            raise UsageError("the model's output has no gradient with respect to its input; use an attack by scores")
        others = logits.detach().scatter(1, y[:, None], -torch.inf)
        classes = others.argsort(dim=1, descending=True)[:, : min(candidates, logits.shape[1] - 1)]
        gaps = logits.gather(1, classes) - logits.gather(1, y[:, None])  # (N, k)
        slopes = [torch.autograd.grad(gap.sum(), x, retain_graph=True)[0] for gap in gaps.unbind(1)]
    return -gaps.detach(), torch.stack(slopes), logits.detach()


def _to_the_nearest(x: Tensor, lead: Tensor, slopes: Tensor, norm: Norm) -> Tensor:
    """The step (N, ...) to the nearest of the linearised boundaries."""
    stuck = ((slopes > 0) & (x >= 1)) | ((slopes < 0) & (x <= 0))
    slopes = slopes.masked_fill(stuck, 0)
    size = slopes.flatten(2).abs()  # (k, N, D)
    power = size.sum(dim=2) if norm == "linf" else size.square().sum(dim=2)  # (k, N)
    far = lead.T / (power if norm == "linf" else power.sqrt()).clamp_min(_TINY)
    chosen = far.argmin(dim=0)  # (N,)
    every = torch.arange(len(x), device=x.device)
    slope, length = slopes[chosen, every], lead[every, chosen] / power[chosen, every].clamp_min(_TINY)
    return (slope.sign() if norm == "linf" else slope) * per_sample(length, x)
