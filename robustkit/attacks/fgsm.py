"""The fast gradient sign method and its l2 and l1 forms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import named, reached
from robustkit.contracts import Threat
from robustkit.norms import per_sample, project, steepest
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """The fast gradient sign method (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572).

    x_adv = clip(x + eps · sign(∇ cross-entropy)) in linf; for l2 (the fast gradient method) the step is
    eps · ∇/‖∇‖₂, so the perturbation's norm is exactly eps before the box; for l1 eps is spread evenly over
    the 2 % of coordinates with the largest gradient.

    Departs from the paper: an input that is misclassified as it is comes back as it is, because a step along
    its gradient could repair it. It has no `polish`: one step is all there is.

    Fields:
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Cost: one forward and one backward pass a sample.
    """

    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("fgsm", threat)
        if not len(x):
            return x.clone()
        gradient, _, logits = input_gradient(model, x, y, named("cross_entropy", self.targeted))
        moved = x + threat.eps * steepest(gradient, threat.norm, x)
        fallen = per_sample(reached(logits, y, self.targeted), x)
        return torch.where(fallen, x, project(moved, x, threat))
