"""Normalisation as the first layer of a model, so that everything outside sees inputs in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustkit.params import UsageError


class Normalise(nn.Module):
    """(x - mean) / std by channel; mean and std are buffers and travel with the weights.

    Args:
        mean, std: one number a channel, or one for all, in units of [0, 1] images.
        channels: C.

    Raises:
        UsageError: a wrong number of values, or a std that is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise UsageError(f"{name} has {len(values)} values for {channels} channels; give 1 or {channels}")
        if min(std) <= 0:
            raise UsageError(f"std={tuple(std)} must be above 0")
        self.register_buffer("mean", torch.tensor(mean).expand(channels).reshape(1, -1, 1, 1).clone())  # (1, C, 1, 1)
        self.register_buffer("std", torch.tensor(std).expand(channels).reshape(1, -1, 1, 1).clone())  # (1, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) → (N, C, H, W)
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


class Normalised(nn.Module):
    """A network behind its normalisation: float (N, C, H, W) in [0, 1] → logits (N, K)."""

    def __init__(self, normalise: Normalise, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalise(x))  # (N, K)
        return logits
