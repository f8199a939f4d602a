"""Wide residual network."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Shape
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class WideResNet:
    """Wide residual network (Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146), without dropout.

    Pre-activation blocks in three stages of 16, 32 and 64 channels times `width`; `depth` counts the
    convolutions: 6 n + 4 for n blocks a stage. Convolutions start from a normal distribution of variance
    2 / (9 outputs), biases of the linear layer from 0. Names of the weights are those of the published robust
    checkpoints (conv1, block1.layer.0.bn1, convShortcut, bn1, fc).

    Fields:
        depth: 10, 16, 22, 28, 34, …
        width: factor on the channels.

    Shapes: any (C, H, W). Cost: 28-10 has 36,479,194 parameters for 3 channels and 10 classes, 5.2 GMAC at
    32 x 32.
    """

    depth: int = param(28, "layers: 6 n + 4", low=10)
    width: int = param(10, "factor on the channels", low=1)

    def __post_init__(self) -> None:
        check(self)
        if (self.depth - 4) % 6:
            below = self.depth - (self.depth - 4) % 6
            raise UsageError(f"wide_resnet: depth={self.depth} is not 6 n + 4; take {below} or {below + 6}")

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return WideNet((self.depth - 4) // 6, self.width, shape[0], classes)


class WideNet(nn.Module):
    """Stem, three stages of `blocks` blocks, BatchNorm, ReLU, mean, linear."""

    def __init__(self, blocks: int, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _stage(blocks, 16, 16 * width, 1)
        self.block2 = _stage(blocks, 16 * width, 32 * width, 2)
        self.block3 = _stage(blocks, 32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(self.conv1(x)))  # (N, 32 w, H/2, W/2)
        x = torch.relu(self.bn1(self.block3(x)))  # (N, 64 w, H/4, W/4)
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))  # (N, K)
        return logits


def _stage(blocks: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    """A stage; one level deeper than need be, for the names of published weights."""
    rest = [_WideBlock(width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(OrderedDict(layer=nn.Sequential(_WideBlock(inputs, width, stride), *rest)))


class _WideBlock(nn.Module):
    """BatchNorm, ReLU, convolution, twice; where the width changes, the way round begins after the first ReLU."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        if inputs != width:
            self.convShortcut = nn.Conv2d(inputs, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.bn1(x))
        around: Tensor = x if self.convShortcut is None else self.convShortcut(active)
        y: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return y + around
