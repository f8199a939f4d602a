"""Softmax regression."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One linear layer on the pixels: logits = W x + b. Its worst case has a closed form (`linear_exact`)."""

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = shape
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))
