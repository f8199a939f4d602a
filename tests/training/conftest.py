from __future__ import annotations

import pytest
import torch
from torch import nn

from robustkit.contracts import Data, Recipe, Threat, Training
from robustkit.data.splits import ArraySplit
from tests.made import data_of


def make_data(count: int = 64) -> Data:
    """Three classes that differ in which third of the image is bright."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (count,), generator=generator)
    x = torch.randint(0, 120, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(y.tolist()):
        x[row, 0, 2 * label : 2 * label + 2] += 90
    return data_of(ArraySplit(x, y), name="bars")


def make_model(normalise: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 4, 3)]
    if normalise:
        layers.append(nn.BatchNorm2d(4))
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def make_training(**changes: object) -> Training:
    recipe = Recipe(epochs=4, batch_size=16, optimizer="sgd", lr=0.05, schedule="constant")
    given: dict[str, object] = {"threat": Threat("linf", 0.1), "recipe": recipe, "precision": "fp32"}
    return Training(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def data() -> Data:
    return make_data()
