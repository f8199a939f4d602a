"""A small convolutional network, the default."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class CNN:
    """Two convolutions of 4 x 4 with stride 2 and two linear layers, as in Wong & Kolter 2018
    (https://arxiv.org/abs/1711.00851): 16 and 32 channels, 100 hidden units.

    Fields:
        width: channels of the first convolution; the second has twice as many.
        hidden: units of the linear layer between.
    """

    width: int = param(16, "channels of the first convolution", low=1)
    hidden: int = param(100, "units of the hidden linear layer", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = shape
        if min(height, width) < 4:
            raise UsageError(f"model cnn needs images of at least 4 x 4 pixels, these are {height} x {width}")
        size = 2 * self.width * (height // 2 // 2) * (width // 2 // 2)
        return nn.Sequential(
            nn.Conv2d(channels, self.width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.width, 2 * self.width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(size, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, classes),
        )
