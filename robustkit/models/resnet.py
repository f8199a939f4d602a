"""Residual networks for 32 x 32 images."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Shape


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = width * self.expansion
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


def _build(
    block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], shape: Shape, classes: int
) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    before = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for i in range(depth):
            layers.append(block(before, width, 2 if stage and i == 0 else 1))
            before = width * block.expansion
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


@dataclass(frozen=True, kw_only=True)
class ResNet18:
    """ResNet-18 (He et al. 2016, https://arxiv.org/abs/1512.03385) with the 3 x 3 stem usual for 32 x 32."""

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return _build(BasicBlock, (2, 2, 2, 2), shape, classes)


@dataclass(frozen=True, kw_only=True)
class ResNet34:
    """ResNet-34 (He et al. 2016, https://arxiv.org/abs/1512.03385) with the 3 x 3 stem usual for 32 x 32."""

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return _build(BasicBlock, (3, 4, 6, 3), shape, classes)


@dataclass(frozen=True, kw_only=True)
class ResNet50:
    """ResNet-50 (He et al. 2016, https://arxiv.org/abs/1512.03385) with the 3 x 3 stem usual for 32 x 32."""

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return _build(Bottleneck, (3, 4, 6, 3), shape, classes)
