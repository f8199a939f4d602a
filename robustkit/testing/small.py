"""A small data set and network on which defenses, certifiers, detectors and poisons are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from robustkit.contracts import Data, Recipe, Threat, Training
from robustkit.data.splits import ArraySplit
from robustkit.testing.yardstick import CLASSES, SHAPE

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 8


def data() -> Data:
    """400 training, 100 validation and 100 test images (3, 8, 8): a pattern a class, with noise on it."""
    generator = torch.Generator().manual_seed(17)
    # Blocks of 2 x 2 pixels, so that defenses that smooth or compress the input leave something to see.
    coarse = torch.randint(30, 226, (CLASSES, SHAPE[0], SHAPE[1] // 2, SHAPE[2] // 2), generator=generator)
    patterns = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # (K, 3, 8, 8)

    def split(count: int) -> ArraySplit:
        y = torch.arange(count) % CLASSES
        noise = torch.randint(-30, 31, (count, *SHAPE), generator=generator)
        return ArraySplit((patterns[y] + noise).clamp(0, 255).to(torch.uint8), y)

    return Data(
        name="kit",
        classes=tuple(str(k) for k in range(CLASSES)),
        shape=SHAPE,
        threat=Threat("linf", 0.05),
        train=split(400),
        val=split(100),
        test=split(100),
        fingerprint="kit-1",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        recipe=recipe(),
    )


def recipe() -> Recipe:
    return Recipe(epochs=4, batch_size=50, optimizer="adam", lr=0.01, schedule="constant", weight_decay=0.0)


def training() -> Training:
    """Silent, on the CPU, in float32, writing nothing."""
    return Training(threat=Threat("linf", 0.05), recipe=recipe(), seed=5, device="cpu", precision="fp32")


def untrained() -> nn.Module:
    """The same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(19)
        return nn.Sequential(
            nn.Conv2d(SHAPE[0], 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * _SIDE * _SIDE, CLASSES),
        )


def trained() -> nn.Module:
    """A network that knows the small data set, in eval mode; a few seconds of plain training."""
    model, known = untrained(), data()
    x, y = whole(known.train)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with torch.enable_grad():
        for start in list(range(0, len(x), 50)) * 3:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[start : start + 50]), y[start : start + 50])
            torch.autograd.backward(loss)
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


def whole(split: Any) -> tuple[Tensor, Tensor]:
    """All of a split: x (N, C, H, W) and y (N,)."""
    x, y = split.batch(torch.arange(len(split)))
    return x, y


def accuracy(model: nn.Module, split: Any) -> float:
    x, y = whole(split)
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == y).float().mean())
