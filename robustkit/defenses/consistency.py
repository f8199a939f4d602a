"""Training smoothed classifiers to be consistent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.params import check, param
from robustkit.training.divergence import divergence
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import Perturbation


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Consistency regularisation for randomized smoothing (Jeong & Shin 2020, https://arxiv.org/abs/2006.04062).

    With p_i the prediction at x + δ_i, δ_i of N(0, sigma²) for i = 1 … m, and p̂ their average:

        min mean_i CE(p_i, y) + weight · mean_i KL(p̂ ‖ p_i) + entropy · H(p̂).

    The noisy inputs are not clipped to [0, 1], because those of the smoothed classifier aren't either. The threat model
    plays no part; no robust accuracy is watched, as the network alone promises none.

    Fields:
        sigma: standard deviation of the noise.
        draws: m; the paper's is 2.
        weight: of the divergence; the paper's is 10, and 20 for CIFAR-10 at sigma = 0.25.
        entropy: weight of the entropy of the average; the paper's is 0.5.

    Cost: `draws` forward and backward passes a sample and epoch.
    """

    sigma: float = param(0.25, "standard deviation of the noise", unit="input units", low=0)
    draws: int = param(2, "noise vectors for each image", low=1)
    weight: float = param(10.0, "weight of the divergence from the average prediction", low=0)
    entropy: float = param(0.5, "weight of the entropy of the average prediction", low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        method = _Consistent(self.sigma, self.draws, self.weight, self.entropy)
        return train(model, data, training, method, repr(self))


@dataclass(frozen=True)
class _Consistent:
    sigma: float
    draws: int
    weight: float
    entropy: float
    replays: int = 1
    watch: Perturbation | None = None

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        noise = self.sigma * torch.randn(self.draws, *x.shape, dtype=x.dtype, device=x.device)
        return (x + noise).flatten(0, 1)  # (m · B, C, H, W)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        log_p = model(examples).log_softmax(dim=1)  # (m · B, K)
        # the logarithm of an average probability, finite where that underflows
        log_average = log_p.reshape(self.draws, len(y), -1).logsumexp(dim=0) - math.log(self.draws)  # (B, K)
        apart = divergence(log_average.repeat(self.draws, 1), log_p).mean()
        entropy = -(log_average.exp() * log_average).sum(dim=1).mean()
        loss: Tensor = F.nll_loss(log_p, y.repeat(self.draws)) + self.weight * apart + self.entropy * entropy
        return loss

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None
