"""The small convolutional network of the default benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape
from robustkit.models.sizes import at_least
from robustkit.models.strided import Strided


@dataclass(frozen=True, kw_only=True)
class CNN:
    """Two convolutions and two linear layers (Wong & Kolter 2018, https://arxiv.org/abs/1711.00851, section 5).

    Convolutions of 16 and 32 channels, 4 x 4 with stride 2 and padding 1, ReLU after each; linear to 100, ReLU,
    linear to K. A flat `Sequential`, so that the published weights load by name.

    Shapes: any (C, H, W) with H, W >= 8. Cost: 166,406 parameters for (1, 28, 28) and 10 classes.
    """

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = at_least(8, shape, "cnn")
        return nn.Sequential(
            Strided(channels, 16, 4, stride=2, padding=1),  # (N, 16, H/2, W/2)
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),  # (N, 32, H/4, W/4)
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * (height // 2 // 2) * (width // 2 // 2), 100),
            nn.ReLU(),
            nn.Linear(100, classes),
        )
