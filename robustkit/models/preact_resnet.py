"""Pre-activation residual network for small images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Shape


@dataclass(frozen=True, kw_only=True)
class PreActResNet18:
    """ResNet-18 with BatchNorm and ReLU before each convolution (He et al. 2016, https://arxiv.org/abs/1603.05027).

    Departs from the source: a 3 x 3 stem for 32 x 32 without BatchNorm, shortcuts of a plain 1 x 1 convolution,
    and no BatchNorm and ReLU after the last block, as in the network of 11,171,146 parameters that most
    published CIFAR results are of. Names of the weights follow it (conv1, layer1.0.bn1, shortcut.0, linear).

    Shapes: any (C, H, W). Cost: 11,171,146 parameters for 3 channels and 10 classes, 0.56 GMAC at 32 x 32.
    """

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return PreActResNet((2, 2, 2, 2), shape[0], classes)


class PreActResNet(nn.Module):
    """Stem, four stages of 64, 128, 256 and 512 channels, mean, linear."""

    def __init__(self, depths: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        inputs = 64
        stages = []
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            blocks = []
            for index in range(depth):
                blocks.append(_PreActBlock(inputs, width, stride=2 if stage > 0 and index == 0 else 1))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.conv1(x))  # (N, 64, H, W)
        x = self.layer4(self.layer3(self.layer2(x)))  # (N, 512, H/8, W/8)
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))  # (N, K)
        return logits


class _PreActBlock(nn.Module):
    """BatchNorm, ReLU, convolution, twice; where the shape changes, the way round begins after the first ReLU."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.bn1(x))
        around: Tensor = x if self.shortcut is None else self.shortcut(active)
        y: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return y + around
