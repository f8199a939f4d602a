"""free_at against the algorithm of the paper written out by hand, and against the ways to get it wrong."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Recipe, Threat, Training
from robustkit.data.splits import ArraySplit
from robustkit.defenses.free_at import FreeAT
from robustkit.params import ParamError
from robustkit.training.batches import Batches
from tests.made import data_of

EPS, REPLAYS = 0.2, 3
RECIPE = Recipe(epochs=7, batch_size=16, lr=0.05, schedule="cyclic", momentum=0.9, weight_decay=1e-3)


def bars(count: int) -> ArraySplit:
    """Three classes that differ in which third is bright; many pixels are 0, where the box cuts the ball."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    x = torch.randint(-80, 60, (count, 1, 6, 6), generator=generator)
    for row, label in enumerate(y.tolist()):
        x[row, 0, 2 * label : 2 * label + 2] += 120
    return ArraySplit(x.clamp(0, 255).to(torch.uint8), y)


@pytest.fixture
def data() -> Data:
    return data_of(
        bars(50), val=bars(9), test=bars(9), threat=Threat("linf", EPS)
    )  # three batches of 16, two samples over


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))


def by_hand(model: nn.Module, data: Data, wrong: str = "") -> nn.Module:
    """Algorithm 1 of Shafahi et al. 2019 in Linf, with the mistake named by `wrong`."""
    batches = Batches(data.train, RECIPE, torch.device("cpu"), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-3, nesterov=True)
    epochs = RECIPE.epochs if wrong == "epochs not divided" else -(-RECIPE.epochs // REPLAYS)
    steps, step = epochs * len(batches) * REPLAYS, 0
    delta = torch.zeros(16, 1, 6, 6)

    def gradient_of(x: Tensor, y: Tensor, delta: Tensor) -> Tensor:
        point = (x + delta).requires_grad_()
        model.zero_grad()
        F.cross_entropy(model(point), y).backward()
        assert point.grad is not None
        return point.grad

    for epoch in range(epochs):
        for x, y in batches.epoch(epoch):
            if wrong == "delta starts anew":
                delta = torch.zeros_like(x)
            for replay in range(REPLAYS):
                box = (lambda z: z) if wrong == "no box" else (lambda z: z.clamp(0, 1))
                delta = box(x + delta) - x
                gradient = gradient_of(x, y, delta)
                counted = step - replay if wrong == "schedule by batch" else step
                for group in optimizer.param_groups:
                    group["lr"] = float(np.interp((counted + 0.5) / steps, [0, 0.4, 1], [0, RECIPE.lr, 0]))
                optimizer.step()
                if wrong == "delta after the weights":
                    gradient = gradient_of(x, y, delta)
                delta = box(x + (delta + EPS * gradient.sign()).clamp(-EPS, EPS)) - x
                step += 1
    return model


def distance_of(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs)


def trained(model: nn.Module, data: Data, **changes: object) -> nn.Module:
    training = Training(threat=data.threat, recipe=RECIPE, precision="fp32", **changes)  # type: ignore[arg-type]
    return FreeAT(replays=REPLAYS)(model, data, training)


def test_it_is_the_papers_algorithm(model: nn.Module, data: Data) -> None:
    expected = by_hand(copy.deepcopy(model), data)
    start = copy.deepcopy(model)
    found = trained(model, data)
    assert distance_of(found, expected) < 1e-4
    assert distance_of(found, start) > 0.05


@pytest.mark.parametrize(
    "wrong",
    ["epochs not divided", "schedule by batch", "delta starts anew", "delta after the weights", "no box"],
)
def test_a_wrong_variant_would_be_noticed(wrong: str, model: nn.Module, data: Data) -> None:
    expected = by_hand(copy.deepcopy(model), data, wrong)
    assert distance_of(trained(model, data), expected) > 1e-3


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("l1", 2.0)])
def test_delta_stays_in_the_balls_of_other_norms(norm: str, eps: float, model: nn.Module, data: Data) -> None:
    seen: list[float] = []
    clean = {value.numpy().tobytes(): value for value in data.train.batch(torch.arange(50))[0]}
    matrix = torch.stack(list(clean.values())).flatten(1)

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                nearest = torch.cdist(x.detach().flatten(1), matrix, p=2 if norm == "l2" else 1).amin(dim=1)
                seen.extend(nearest.tolist())
                assert 0 <= float(x.detach().min()) <= float(x.detach().max()) <= 1
            logits: Tensor = self.inner(x)
            return logits

    training = Training(threat=Threat(norm, eps), recipe=RECIPE, precision="fp32")  # type: ignore[arg-type]
    FreeAT(replays=REPLAYS)(Spy(), data, training)
    assert max(seen) <= eps * (1 + 1e-4)
    assert max(seen) > 0.9 * eps


def test_it_makes_as_many_passes_as_ordinary_training(model: nn.Module, data: Data) -> None:
    from robustkit.defenses.standard import Standard

    counts = []
    for defense in (Standard(), FreeAT(replays=4)):
        passes: list[int] = []
        network = copy.deepcopy(model)
        network.register_forward_hook(lambda m, _i, out, passes=passes: passes.append(len(out) * m.training))
        recipe = Recipe(epochs=8, batch_size=16, lr=0.01)
        defense(network, data, Training(threat=data.threat, recipe=recipe, precision="fp32"))
        counts.append(sum(passes))
    assert counts[0] == counts[1] == 8 * 48


def test_parameters_are_checked() -> None:
    with pytest.raises(ParamError, match="replays=0"):
        FreeAT(replays=0)
    with pytest.raises(ParamError, match="step_size"):
        FreeAT(step_size=-1.0)
