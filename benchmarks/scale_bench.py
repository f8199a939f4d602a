"""What benchmarks/scale.py measures with: images made when they are read, a network that is given, and an echo."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Threat
from robustkit.executors.pool import Fetch


@dataclass(frozen=True)
class Made:
    """`count` images of 3 x 32 x 32 that nobody stores: each is drawn from its own index."""

    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def labels(self) -> Tensor:
        return torch.arange(self.count) % 10

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        place = torch.arange(3 * 32 * 32).view(1, 3, 32, 32)
        mixed = (index.view(-1, 1, 1, 1) * 7919 + place * 104729) % 1009
        return mixed.float() / 1008, index % 10


def images() -> Data:
    """As many test images as the environment variable SCALE_IMAGES says."""
    test = Made(int(os.environ["SCALE_IMAGES"]))
    return Data(
        name="made",
        classes=tuple("0123456789"),
        shape=(3, 32, 32),
        threat=Threat("linf", 8 / 255),
        train=Made(500),
        val=Made(100),
        test=test,
        fingerprint=f"made {test.count}",
    )


def net() -> nn.Module:
    """A small network with fixed weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10)).eval()


def echo(fetch: Fetch) -> Callable[[bytes], bytes]:
    """A handler that does nothing, so that what is left is the cost of handing out."""
    return lambda message: message
