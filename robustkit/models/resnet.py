"""Residual networks for small images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Shape
from robustkit.params import check, param

_WIDTH = "channels of the first stage; the paper's is 64"


@dataclass(frozen=True, kw_only=True)
class ResNet18:
    """ResNet-18 (He, Zhang, Ren & Sun 2016, https://arxiv.org/abs/1512.03385) for small images.

    Departs from the source, as is usual for 32 x 32: a 3 x 3 stem of stride 1 and no pooling after it, so that
    the last features are (512, 4, 4). Names of the weights are those of most CIFAR checkpoints (conv1, bn1,
    layer1.0.conv1, shortcut.0, linear).

    Fields:
        width: channels of the first stage; each further one has twice as many.

    Shapes: any (C, H, W). Cost: 11,173,962 parameters for 3 channels and 10 classes, 0.56 GMAC at 32 x 32.
    """

    width: int = param(64, _WIDTH, low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return ResNet(_Basic, (2, 2, 2, 2), shape[0], classes, self.width)


@dataclass(frozen=True, kw_only=True)
class ResNet34:
    """ResNet-34 for small images, see `ResNet18`.

    Shapes: any (C, H, W). Cost: 21,282,122 parameters for 3 channels and 10 classes, 1.16 GMAC at 32 x 32.
    """

    width: int = param(64, _WIDTH, low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return ResNet(_Basic, (3, 4, 6, 3), shape[0], classes, self.width)


@dataclass(frozen=True, kw_only=True)
class ResNet50:
    """ResNet-50 for small images, see `ResNet18`; the stride of a block is that of its 3 x 3 convolution.

    Shapes: any (C, H, W). Cost: 23,520,842 parameters for 3 channels and 10 classes, 1.30 GMAC at 32 x 32.
    """

    width: int = param(64, _WIDTH, low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return ResNet(_Bottleneck, (3, 4, 6, 3), shape[0], classes, self.width)


class ResNet(nn.Module):
    """Stem, four stages of 1, 2, 4 and 8 times `width` channels (times the block's expansion), mean, linear."""

    def __init__(
        self,
        block: type[_Basic] | type[_Bottleneck],
        depths: tuple[int, ...],
        channels: int,
        classes: int,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        stages = []
        for stage, depth in enumerate(depths):
            outputs = width * 2**stage
            blocks = []
            for index in range(depth):
                blocks.append(block(inputs, outputs, stride=2 if stage > 0 and index == 0 else 1))
                inputs = outputs * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))  # (N, w, H, W)
        x = self.layer2(self.layer1(x))  # (N, 2 w e, H/2, W/2)
        x = self.layer4(self.layer3(x))  # (N, 8 w e, H/8, W/8)
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))  # (N, K)
        return logits


class _Basic(nn.Module):
    """Two 3 x 3 convolutions and the way round them."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class _Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3, 1 x 1 up to four times the width, and the way round them."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Nothing where shapes agree, else a 1 x 1 convolution with BatchNorm."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
