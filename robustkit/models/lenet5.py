"""LeNet-5."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape
from robustkit.models.sizes import at_least


@dataclass(frozen=True, kw_only=True)
class LeNet5:
    """LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf).

    Convolutions of 6 and 16 channels, 5 x 5, each with pooling; linear layers of 120, 84 and K.

    Departs from the source, as everyone does today: ReLU for the scaled tanh, max pooling for the trained
    averages, all 16 channels see all 6, and a linear last layer for the radial basis functions. Images below
    32 x 32 are padded by 2, which is how the source makes 32 x 32 of 28 x 28.

    Shapes: (C, H, W) with H, W >= 12. Cost: 61,706 parameters for (1, 28, 28) and 10 classes.
    """

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = at_least(12, shape, "lenet5")
        padding = 2 if min(height, width) < 32 else 0
        features = 16 * _after(height, padding) * _after(width, padding)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(features, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )


def _after(side: int, padding: int) -> int:
    """The side of the feature maps: 5 x 5 convolution and pooling by 2, twice."""
    return ((side + 2 * padding - 4) // 2 - 4) // 2
