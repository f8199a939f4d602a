"""Models that attacks are tried on: untrained, linear with a known worst case, and a small trained one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.data.mnist_10k import MNIST10k
from robustkit.models.cnn import CNN


class Samples(NamedTuple):
    model: nn.Module
    x: Tensor  # (N, C, H, W)
    y: Tensor  # (N,), the classes the model gives them


Make = Callable[..., Samples]


def labelled(model: nn.Module, x: Tensor) -> Samples:
    model = model.to(x.dtype).eval()
    with torch.no_grad():
        y = model(x).argmax(dim=1) if len(x) else torch.zeros(0, dtype=torch.int64)
    return Samples(model, x, y)


@pytest.fixture(scope="session")
def untrained() -> Make:
    """A convolution, BatchNorm and a linear layer, on images a third of whose values are exactly 0 or 1."""

    def make(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32, classes: int = 5) -> Samples:
        _, channels, height, width = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(
                nn.Conv2d(channels, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(4 * height * width, classes),
            )
            x = ((torch.rand(shape, dtype=dtype) - 0.5) * 1.5 + 0.5).clamp(0, 1)
        return labelled(model, x)

    return make


@pytest.fixture(scope="session")
def linear() -> Make:
    """A linear classifier; `middle` keeps the inputs at least 0.3 from the ends of the box."""

    def make(
        *,
        samples: int = 20,
        classes: int = 4,
        shape: tuple[int, int, int] = (1, 5, 5),
        middle: bool = True,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> Samples:
        channels, height, width = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes)).requires_grad_(False)
            x = torch.rand((samples, *shape), dtype=dtype)
        x = 0.3 + 0.4 * x if middle else ((x - 0.5) * 1.5 + 0.5).clamp(0, 1)
        return labelled(model, x)

    return make


@pytest.fixture(scope="session")
def trained() -> Samples:
    """A convolutional network trained for some seconds on the first digits, and 200 test digits it gets right."""
    data = MNIST10k()()
    x, y = data.train.batch(torch.arange(3000))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CNN()(data.shape, len(data.classes))
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(3):
            for rows in torch.randperm(len(x)).split(100):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    model.requires_grad_(False).eval()
    x, y = data.test.batch(torch.arange(300))
    right = model(x).argmax(dim=1) == y
    return Samples(model, x[right][:200], y[right][:200])
