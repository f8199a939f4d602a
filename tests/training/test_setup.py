from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Recipe, Training
from robustkit.data.splits import ArraySplit
from robustkit.params import UsageError
from robustkit.training import setup
from robustkit.training.loop import train
from robustkit.training.method import OnExamples
from robustkit.training.setup import make_optimizer, turn_channels_last
from tests.made import data_of

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05)


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (32, 3, 6, 6), generator=generator, dtype=torch.uint8)
    return data_of(ArraySplit(x, torch.arange(32) % 2), "ab")


class Viewing(nn.Module):
    """Flattens by `view`, which channels-last tensors refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.convolution(x)
        logits: Tensor = self.linear(hidden.view(len(x), -1))
        return logits


def test_channels_last_where_it_works_and_only_there() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Flatten(), nn.Linear(64, 2)).train()
    plain[1].eval()  # a part that is frozen on purpose
    assert turn_channels_last(plain, torch.rand(2, 3, 6, 6))
    assert plain[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert [module.training for module in plain.modules()] == [True, True, False, True, True]
    viewing = Viewing()
    assert not turn_channels_last(viewing, torch.rand(2, 3, 6, 6))
    assert viewing.convolution.weight.is_contiguous()
    assert not turn_channels_last(nn.Linear(2, 2), torch.rand(2, 2))


def test_a_network_that_views_trains(data: Data) -> None:
    trained = train(Viewing(), data, Training(threat=data.threat, recipe=RECIPE, precision="fp32"), OnExamples(), "x")
    assert not trained.training


def test_optimisers() -> None:
    model = nn.Linear(2, 2)
    sgd = make_optimizer(model, Recipe(optimizer="sgd", momentum=0.9, weight_decay=1e-3))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["nesterov"]
    assert sgd.param_groups[0]["weight_decay"] == 1e-3
    plain = make_optimizer(model, Recipe(optimizer="sgd", momentum=0.0))
    assert not plain.param_groups[0]["nesterov"]
    assert isinstance(make_optimizer(model, Recipe(optimizer="adam")), torch.optim.Adam)


def test_half_precision_floats_are_refused(data: Data) -> None:
    with pytest.raises(UsageError, match="precision=fp16"):
        train(Viewing(), data, Training(threat=data.threat, recipe=RECIPE, precision="fp16"), OnExamples(), "x")


def test_a_training_goes_on_in_the_precision_it_began_in(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timing could choose otherwise the second time, and the weights would not be those of one training."""
    training = Training(threat=data.threat, recipe=RECIPE, precision="auto", directory=tmp_path)
    calls: list[str] = []

    def choose(model: nn.Module, x: Tensor, wanted: str) -> str:
        calls.append(wanted)
        return "bf16" if len(calls) == 1 else "fp32"

    monkeypatch.setattr(setup, "choose_precision", choose)

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    seen: list[torch.dtype] = []
    model = Viewing()
    model.linear.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    recipe = dataclasses.replace(RECIPE, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(model, data, dataclasses.replace(training, recipe=recipe, report=_after(2, stop)), OnExamples(), "x")
    seen.clear()
    train(model, data, dataclasses.replace(training, recipe=recipe), OnExamples(), "x")
    assert calls == ["auto"]
    assert torch.bfloat16 in seen
    given = dataclasses.replace(training, recipe=recipe, precision="fp32")
    with pytest.raises(UsageError, match="began in bf16"):
        train(model, data, given, OnExamples(), "x")


def _after(epoch: int, action):  # type: ignore[no-untyped-def]
    return lambda progress: action(progress) if progress.epoch == epoch else None
