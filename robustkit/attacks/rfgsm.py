"""Randomised FGSM (R+FGSM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import named, reached
from robustkit.contracts import Threat
from robustkit.norms import per_sample, project, steepest
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class RFGSM:
    """R+FGSM (Tramèr et al. 2018, https://arxiv.org/abs/1705.07204).

    x' = x + alpha · sign(N(0, I)), then x_adv = x' + (eps − alpha) · sign(∇ cross-entropy at x'). In l2 and l1
    both steps are normalised in that norm, so together they stay in the ball.

    Departs from the paper: a sample that falls to the random step alone takes no second one, because that could
    repair it. It has no `polish`: one step is all there is.

    Fields:
        alpha: length of the random step in input units. None: eps / 2, as in the paper.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Errors: UsageError where alpha is larger than eps.
    Cost: one forward and one backward pass a sample.
    """

    alpha: float | None = param(None, "length of the random step; none: eps / 2", unit="input units", low=0)
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("rfgsm", threat)
        alpha = threat.eps / 2 if self.alpha is None else self.alpha
        if alpha > threat.eps:
            raise UsageError(f"rfgsm:alpha={alpha:g} is larger than eps={threat.eps:g}; the second step has no room")
        if not len(x):
            return x.clone()
        start = project(x + alpha * steepest(torch.randn_like(x), threat.norm, x), x, threat)
        gradient, _, logits = input_gradient(model, start, y, named("cross_entropy", self.targeted))
        moved = start + (threat.eps - alpha) * steepest(gradient, threat.norm, start)
        fallen = per_sample(reached(logits, y, self.targeted), x)
        return torch.where(fallen, start, project(moved, x, threat))
