"""A small data set, a small network with BatchNorm, and the training loop written out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Norm, Recipe, Threat, Training
from robustkit.data.splits import ArraySplit
from robustkit.training.batches import Batches
from robustkit.training.seeds import reseed, stream
from tests.made import data_of

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, schedule="constant", momentum=0.0, weight_decay=0.0)
RADII: dict[Norm, float] = {"linf": 0.1, "l2": 0.5, "l1": 2.0}

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Network, x and y → the loss whose gradient the weights follow; makes its own examples."""


@pytest.fixture
def bars() -> Data:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(48) % 3
    x = torch.randint(0, 120, (48, 2, 6, 6), generator=generator)
    for row, label in enumerate(y.tolist()):
        x[row, :, 2 * label : 2 * label + 2] += 100
    return data_of(ArraySplit(x.to(torch.uint8), y), threat=Threat("linf", RADII["linf"]))


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)).train()


def by_hand(net: nn.Module, data: Data, objective: Objective) -> nn.Module:
    """A copy of `net`, trained by plain gradient descent on `objective`."""
    model = copy.deepcopy(net)
    batches = Batches(data.train, RECIPE, torch.device("cpu"), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE.lr)
    with torch.random.fork_rng(devices=[]):
        for epoch in range(RECIPE.epochs):
            reseed(torch.device("cpu"), stream(0, epoch, "perturbations"))
            for x, y in batches.epoch(epoch):
                loss = objective(model, x, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model


def trained(defense: object, net: nn.Module, data: Data, norm: Norm = "linf", **changes: object) -> nn.Module:
    """A copy of `net`, trained by the defense."""
    training = Training(threat=Threat(norm, RADII[norm]), recipe=RECIPE, precision="fp32", **changes)  # type: ignore[arg-type]
    return defense(copy.deepcopy(net), data, training)  # type: ignore[operator, no-any-return]


def difference(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of a weight or a statistic."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((one.double() - other.double()).abs().max()) for one, other in pairs)


def onto_ball(point: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Linf: clip by coordinates; l2: shrink towards x. Then the box."""
    eps = RADII[norm]
    if norm == "linf":
        return torch.minimum(torch.maximum(point, x - eps), x + eps).clamp(0, 1)
    delta = point - x
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
    return (x + delta * (eps / length).clamp_max(1)).clamp(0, 1)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]
