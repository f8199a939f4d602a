"""Random noise: the floor under every attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import margin
from robustkit.contracts import Threat
from robustkit.norms import distance, per_sample, project, random_start
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The worst of several random perturbations; no gradient, so a model that falls to it has no robustness.

    "uniform" draws from the ball (linf: the cube); "gaussian" draws N(0, (eps/2)²) and clips it to the cube in
    linf, and scales a Gaussian direction to length eps in l2 and l1.

    Fields:
        draws: perturbations tried a sample; the one with the largest margin is kept.
        distribution: "uniform" or "gaussian".

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels; returns like x.
    Cost: at most `draws` forward passes a sample.
    """

    draws: int = param(10, "perturbations tried a sample", low=1)
    distribution: Literal["uniform", "gaussian"] = param("uniform", "of the noise")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("noise", threat)
        best = x.clone()
        value = torch.full((x.shape[0],), -torch.inf, dtype=x.dtype, device=x.device)
        with torch.no_grad():
            for _ in range(self.draws):
                rows = (value <= 0).nonzero().squeeze(1)  # a positive margin has fallen
                if not len(rows):
                    break
                candidate = self._draw(x[rows], threat)
                found = margin(model(candidate), y[rows]).to(value.dtype)
                better = found > value[rows]
                best[rows[better]], value[rows[better]] = candidate[better], found[better]
        return best

    def _draw(self, x: Tensor, threat: Threat) -> Tensor:
        if self.distribution == "uniform":
            return random_start(x, threat)
        noise = torch.randn_like(x)
        if threat.norm == "linf":
            return project(x + noise * threat.eps / 2, x, threat)
        length = distance(noise, torch.zeros_like(noise), threat.norm)
        return project(x + noise * per_sample(threat.eps / length.clamp_min(1e-12), noise), x, threat)
