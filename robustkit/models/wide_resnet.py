"""Wide residual networks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape
from robustkit.models.preact import PreActBlock
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class WideResNet:
    """Wide ResNet (Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146), WRN-depth-width.

    Fields:
        depth: layers, 6 n + 4.
        width: factor on the channels 16, 32, 64.
    """

    depth: int = param(28, "layers, 6 n + 4", low=10)
    width: int = param(10, "factor on the channels", low=1)

    def __post_init__(self) -> None:
        check(self)
        if (self.depth - 4) % 6:
            raise UsageError(f"wide_resnet:depth={self.depth} is not 6 n + 4, e.g. 16, 28 or 34")

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(shape[0], 16, 3, 1, 1, bias=False)]
        before = 16
        for stage in range(3):
            width = 16 * self.width * 2**stage
            for i in range((self.depth - 4) // 6):
                layers.append(PreActBlock(before, width, 2 if stage and i == 0 else 1))
                before = width
        head = [
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(before, classes),
        ]
        return nn.Sequential(*layers, *head)
