"""Softmax regression on pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One linear layer on the pixels: the model whose exact worst case is known in closed form.

    Shapes: any (C, H, W). Cost: (C H W + 1) K parameters.
    """

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = shape
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))
