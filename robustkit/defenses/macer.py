"""Training smoothed classifiers for a large certified radius."""

from __future__ import annotations

import math
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
class MACER:
    """MACER (Zhai et al. 2020, https://arxiv.org/abs/2001.02378).

    With p̂ the prediction averaged over x + δ_i, δ_i of N(0, sigma²) for i = 1 … m, and q̂ the same average of
    softmax(beta · logits):

        min CE(p̂, y) + weight · sigma / 2 · max(0, gamma − ξ),  ξ = Φ⁻¹(q̂_first) − Φ⁻¹(q̂_second),

    the second term for images whose q̂ is right, where sigma / 2 · ξ is the certified radius. As in the reference
    implementation, images whose q̂ has reached 0 or 1 in float32 take no part in it. The threat model plays no part;
    no robust accuracy is watched, as the network alone promises none.

    Fields:
        sigma: standard deviation of the noise.
        draws: m; the paper's is 16.
        weight: of the robustness loss; the paper's is 12 for CIFAR-10 at sigma = 0.25 and 4 at 0.5, 16 for MNIST.
        gamma: ξ that is enough; the paper's is 8.
        beta: sharpens the predictions whose average is certified; the paper's is 16.

    Cost: `draws` forward and backward passes a sample and epoch.
    """

    sigma: float = param(0.25, "standard deviation of the noise", unit="input units", low=0)
    draws: int = param(16, "noise vectors for each image", low=1)
    weight: float = param(12.0, "weight of the robustness loss", low=0)
    gamma: float = param(8.0, "difference of quantiles that is enough", low=0)
    beta: float = param(16.0, "factor on the logits in the robustness loss", low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        method = _Certified(self.sigma, self.draws, self.weight, self.gamma, self.beta)
        return train(model, data, training, method, repr(self))


@dataclass(frozen=True)
class _Certified:
    sigma: float
    draws: int
    weight: float
    gamma: float
    beta: float
    replays: int = 1
    watch: Perturbation | None = None

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        noise = self.sigma * torch.randn(self.draws, *x.shape, dtype=x.dtype, device=x.device)
        return (x + noise).flatten(0, 1)  # (m · B, C, H, W)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        logits = model(examples).reshape(self.draws, len(y), -1)  # (m, B, K)
        log_average = logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(self.draws)  # (B, K)
        sharp = (self.beta * logits).softmax(dim=2).mean(dim=0)
        loss: Tensor = F.nll_loss(log_average, y) + self.weight * self.sigma / 2 * self._short(sharp, y)
        return loss

    def _short(self, average: Tensor, y: Tensor) -> Tensor:
        """How far ξ falls short of gamma, summed over the images that are right, as a share of all."""
        scores, classes = average.topk(2, dim=1)  # (B, 2)
        # chosen before the quantiles are taken: the gradient of an infinite one would spoil all
        inner = ((scores > 0) & (scores < 1)).all(dim=1) & (classes[:, 0] == y)
        quantiles = torch.special.ndtri(scores[inner])
        short: Tensor = (self.gamma - quantiles[:, 0] + quantiles[:, 1]).clamp_min(0)
        return short.sum() / len(y)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None
