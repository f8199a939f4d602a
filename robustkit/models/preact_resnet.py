"""Pre-activation ResNet for 32 x 32 images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Shape
from robustkit.models.preact import PreActBlock


@dataclass(frozen=True, kw_only=True)
class PreActResNet18:
    """Pre-activation ResNet-18 (He et al. 2016, https://arxiv.org/abs/1603.05027), the usual network of
    adversarial training on CIFAR-10 (Wong et al. 2020, Rice et al. 2020).
    """

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False)]
        before = 64
        for stage in range(4):
            width = 64 * 2**stage
            layers += [PreActBlock(before, width, 2 if stage else 1), PreActBlock(width, width, 1)]
            before = width
        head = [
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(before, classes),
        ]
        return nn.Sequential(*layers, *head)
