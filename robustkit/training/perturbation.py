"""The inner attack of adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import Loss, cross_entropy
from robustkit.contracts import Threat
from robustkit.norms import random_start, steepest
from robustkit.training.modes import in_eval
from robustkit.training.radii import Radii, pull_back, share_of


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A start, then steps x ← Π(x + step_size · eps · d), d the steepest direction of the loss.

    Every sample takes all steps, fallen or not: training wants the worst point, not the first that errs.

    Args:
        start: "clean", "uniform" (in the ball of start_size · eps), "sign" (a random corner of that ball) or
            "normal" (Gaussian noise of standard deviation `start_size` in input units).
        steps: gradient steps.
        step_size: length of a step as a share of eps.
        start_size: of the random start.
        inside: project onto ball ∩ box after each step; otherwise onto the box alone.
    """

    start: Literal["clean", "uniform", "sign", "normal"]
    steps: int
    step_size: float
    start_size: float = 1.0
    inside: bool = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, loss: Loss = cross_entropy) -> Tensor:
        """Perturb (B, C, H, W) images; the gradient of the weights is neither computed nor left behind.

        `loss` maps logits and y to one value a sample, which is maximised. BatchNorm runs with its running
        statistics, which the attack therefore leaves alone (Pang et al. 2021, https://arxiv.org/abs/2010.00467, found
        this the better choice).
        """
        with in_eval(model):
            point = self._start(x, threat)
            for _ in range(self.steps):
                gradient, _, _ = input_gradient(model, point, y, loss)
                length = self.step_size * threat.eps * share_of(threat, x)
                moved = point + length * steepest(gradient, threat.norm, point)
                point = pull_back(moved, x, threat) if self.inside else moved.clamp(0, 1)
        return point

    def _start(self, x: Tensor, threat: Threat) -> Tensor:
        if self.start == "clean":
            return x
        if self.start == "normal":
            return (x + self.start_size * torch.randn_like(x)).clamp(0, 1)
        radius = self.start_size * threat.eps
        if self.start == "uniform":
            # a linf radius above 1 is no threat model; the box cuts off what it would add
            point = random_start(x, Threat(threat.norm, min(radius, 1.0) if threat.norm == "linf" else radius))
        else:
            corner = steepest(torch.randn_like(x), threat.norm, x)
            point = (x + radius * corner).clamp(0, 1)
        return (x + share_of(threat, x) * (point - x)).clamp(0, 1) if isinstance(threat, Radii) else point


WATCH = Perturbation(start="uniform", steps=10, step_size=0.25)
"""What adversarial training is watched with: robust accuracy that falls to nothing while the training accuracy rises
is catastrophic overfitting (Wong et al. 2020, https://arxiv.org/abs/2001.03994)."""
