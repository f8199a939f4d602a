"""LeNet-5."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape
from robustkit.params import UsageError


@dataclass(frozen=True, kw_only=True)
class LeNet5:
    """LeNet-5 (LeCun et al. 1998, https://doi.org/10.1109/5.726791) in today's form: ReLU and max pooling.

    28 x 28 images are padded to the 32 x 32 of the paper, so 61,706 parameters with one channel, ten classes.
    """

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = shape
        if (height, width) not in ((28, 28), (32, 32)):
            raise UsageError(
                f"model lenet5 takes images of 28 x 28 or 32 x 32 pixels, these are {height} x {width}"
            )
        return nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2 if height == 28 else 0),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )
