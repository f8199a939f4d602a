"""Training on Gaussian noise."""

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


@dataclass(frozen=True, kw_only=True)
class NoiseTraining:
    """Gaussian augmentation, the training for randomized smoothing (Cohen et al. 2019,
    https://arxiv.org/abs/1902.02918): cross-entropy at x + N(0, sigma²), drawn anew for every update.

    The noisy inputs are not clipped to [0, 1], because those of the smoothed classifier aren't either.

    Fields:
        sigma: standard deviation of the noise.

    Cost: one forward and one backward pass a sample and epoch.
    """

    sigma: float = param(0.25, "standard deviation of the noise", unit="input units", low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return train(model, data, training, _Noisy(self.sigma), repr(self))


@dataclass(frozen=True)
class _Noisy:
    sigma: float
    replays: int = 1
    watch: Perturbation | None = None

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        return x + self.sigma * torch.randn_like(x)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(examples), y)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None
