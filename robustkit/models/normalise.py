"""Normalisation as the first layer of a model, so that inputs are always [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(x − mean) / std by channel; mean and std are constants of the model, not parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Normalised(nn.Module):
    """A network with its normalisation: float (N, C, H, W) in [0, 1] → logits (N, K)."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalise(x))
        return logits
