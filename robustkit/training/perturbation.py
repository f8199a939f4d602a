"""The inner attack of adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import cross_entropy
from robustkit.contracts import Threat
from robustkit.norms import project, random_start, steepest


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A start, then steps x ← Π(x + step_size · eps · d), d the steepest direction of cross-entropy.

    Every sample takes all steps, fallen or not: training wants the worst point, not the first that errs.

    Args:
        start: "clean", "uniform" (in the ball) or "sign" (a random corner, `start_size` long).
        steps: gradient steps.
        step_size: length of a step as a share of eps.
        start_size: length of the random corner as a share of eps.
    """

    start: Literal["clean", "uniform", "sign"]
    steps: int
    step_size: float
    start_size: float = 0.5

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Perturb (B, C, H, W) images; the gradient of the weights is neither computed nor left behind.

        BatchNorm runs with its running statistics, which the attack therefore leaves alone (Pang et al. 2021,
        https://arxiv.org/abs/2010.00467, found this the better choice).
        """
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            point = self._start(x, threat)
            for _ in range(self.steps):
                gradient, _, _ = input_gradient(model, point, y, cross_entropy)
                step = self.step_size * threat.eps * steepest(gradient, threat.norm, point)
                point = project(point + step, x, threat)
        finally:
            for module in training:
                module.training = True
        return point

    def _start(self, x: Tensor, threat: Threat) -> Tensor:
        if self.start == "uniform":
            return random_start(x, threat)
        if self.start == "sign":
            corner = steepest(torch.randn_like(x), threat.norm, x)
            return (x + self.start_size * threat.eps * corner).clamp(0, 1)
        return x


WATCH = Perturbation(start="uniform", steps=10, step_size=0.25)
"""What adversarial training is watched with: robust accuracy that falls to nothing while the training accuracy rises
is catastrophic overfitting (Wong et al. 2020, https://arxiv.org/abs/2001.03994)."""
