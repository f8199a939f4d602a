"""A fully connected network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Linear layers with ReLU between them.

    Fields:
        width: units of each hidden layer.
        depth: hidden layers.
    """

    width: int = param(256, "units of each hidden layer", low=1)
    depth: int = param(2, "hidden layers", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = shape
        layers: list[nn.Module] = [nn.Flatten()]
        size = channels * height * width
        for _ in range(self.depth):
            layers += [nn.Linear(size, self.width), nn.ReLU()]
            size = self.width
        return nn.Sequential(*layers, nn.Linear(size, classes))
