"""Adversarial training of smoothed classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.params import check, param
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import Perturbation

_TINY = 1e-20
"""Keeps the logarithm of an average probability finite."""


@dataclass(frozen=True, kw_only=True)
class SmoothAdv:
    """SmoothAdv, adversarial training for randomized smoothing (Salman et al. 2019, https://arxiv.org/abs/1906.04584).

    x' maximises −log mean_i p_y(x' + δ_i) in the ball, with m draws δ_i of N(0, sigma²) that are kept during the
    attack; then cross-entropy at each of x' + δ_i. It is the average of probabilities that is attacked (SmoothAdv_PGD),
    not that of cross-entropies. Steps start from x. The noisy inputs are not clipped to [0, 1], x' is.

    Norm and eps are those of the threat model; the paper's is l2, with eps of 64/255 to 512/255, ramped over the first
    10 epochs (`ramp` of the recipe). No robust accuracy is watched, as the network alone promises none.

    Fields:
        sigma: standard deviation of the noise.
        draws: m; the paper tries 1, 2, 4 and 8.
        steps: gradient steps of the inner attack; the paper tries 2 to 10.
        step_size: length of a step as a share of eps. None: 2 / steps, as in the paper's code.

    Cost: draws · (steps + 1) forward and backward passes a sample and epoch.
    """

    sigma: float = param(0.25, "standard deviation of the noise", unit="input units", low=0)
    draws: int = param(2, "noise vectors for each image", low=1)
    steps: int = param(10, "gradient steps of the inner attack", low=1)
    step_size: float | None = param(None, "length of a step; none: 2 / steps", unit="share of eps", low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step_size = 2 / self.steps if self.step_size is None else self.step_size
        inner = Perturbation(start="clean", steps=self.steps, step_size=step_size)
        return train(model, data, training, _Smoothed(inner, self.sigma, self.draws), repr(self))


@dataclass(frozen=True)
class _Smoothed:
    inner: Perturbation
    sigma: float
    draws: int
    replays: int = 1
    watch: Perturbation | None = None

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        noise = self.sigma * torch.randn(self.draws, *x.shape, dtype=x.dtype, device=x.device)
        x_adv = self.inner(_Average(model, noise), x, y, threat)
        return (x_adv + noise).flatten(0, 1)  # (m · B, C, H, W)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(examples), y.repeat(self.draws))

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None


class _Average(nn.Module):
    """x (B, C, H, W) → log of the probabilities (B, K) averaged over fixed noise (m, B, C, H, W)."""

    def __init__(self, network: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.network = network
        self._noise = noise

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x + self._noise).flatten(0, 1))
        average: Tensor = logits.softmax(dim=1).reshape(*self._noise.shape[:2], -1).mean(dim=0)
        return average.clamp_min(_TINY).log()
