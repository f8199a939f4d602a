"""What a training tells of itself, and what it does when it goes wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from robustkit.contracts import Data, Recipe, Training, TrainingProgress
from robustkit.data.splits import ArraySplit
from robustkit.params import UsageError
from robustkit.training.loop import train
from robustkit.training.method import OnExamples
from robustkit.training.perturbation import Perturbation
from tests.made import data_of

RECIPE = Recipe(epochs=3, batch_size=8, lr=0.02, schedule="step", weight_decay=0.0)
STEP = Perturbation(start="clean", steps=1, step_size=1.0)


class Forbidden:
    """The test part, which training must not touch."""

    def __len__(self) -> int:
        raise AssertionError("training looked at the test part")

    @property
    def labels(self) -> Tensor:
        raise AssertionError("training looked at the test part")

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("training looked at the test part")


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(48) % 2
    x = torch.randint(0, 100, (48, 1, 4, 4), generator=generator) + 150 * y[:, None, None, None]
    return data_of(ArraySplit(x.to(torch.uint8), y), "ab", test=Forbidden())


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))


def test_progress_tells_epochs_steps_pace_and_metrics(model: nn.Module, data: Data) -> None:
    seen: list[TrainingProgress] = []
    training = Training(threat=data.threat, recipe=RECIPE, precision="fp32", report=seen.append)
    train(model, data, training, OnExamples(perturbation=STEP), "x")
    ends = [progress for progress in seen if "validation accuracy" in progress.metrics]
    assert [(progress.epoch, progress.step) for progress in ends] == [(1, 6), (2, 12), (3, 18)]
    assert {(progress.epochs, progress.steps) for progress in seen} == {(3, 18)}
    assert all(progress.images_per_second > 0 for progress in ends)
    assert [progress.seconds_left > 0 for progress in ends] == [True, True, False]
    for progress in ends:
        assert set(progress.metrics) == {
            "loss",
            "train accuracy",
            "validation accuracy",
            "validation robust accuracy",
        }
    assert ends[-1].metrics["loss"] < ends[0].metrics["loss"]
    assert ends[-1].metrics["validation robust accuracy"] <= ends[-1].metrics["validation accuracy"]


def test_the_first_loss_and_accuracy_are_those_of_the_first_batch(model: nn.Module, data: Data) -> None:
    seen: list[TrainingProgress] = []
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=48)
    x, y = data.train.batch(torch.arange(48))
    with torch.no_grad():
        logits = model(x)
    expected = float(nn.functional.cross_entropy(logits, y))
    share = float((logits.argmax(dim=1) == y).float().mean())
    training = Training(threat=data.threat, recipe=recipe, precision="fp32", report=seen.append)
    train(model, data, training, OnExamples(), "x")
    assert seen[-1].metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert seen[-1].metrics["train accuracy"] == pytest.approx(share)
    assert "validation robust accuracy" not in seen[-1].metrics


def test_tensorboard_reads_one_event_a_metric_and_epoch(model: nn.Module, data: Data, tmp_path: Path) -> None:
    def stop(progress: TrainingProgress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    training = Training(threat=data.threat, recipe=RECIPE, precision="fp32", directory=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(model, data, dataclasses.replace(training, report=stop), OnExamples(), "x")
    train(model, data, training, OnExamples(), "x")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "train_accuracy", "validation_accuracy", "learning_rate"}
    for tag in ("loss", "validation_accuracy"):
        assert [event.step for event in events.Scalars(tag)] == [1, 2, 3]
    rates = [event.value for event in events.Scalars("learning_rate")]
    assert rates == pytest.approx([0.02, 0.002, 0.0002])


def test_with_an_average_it_is_the_average_that_is_validated(model: nn.Module, data: Data) -> None:
    seen: list[TrainingProgress] = []
    recipe = dataclasses.replace(RECIPE, ema=0.9, lr=0.3, schedule="constant")
    training = Training(threat=data.threat, recipe=recipe, precision="fp32", report=seen.append)
    trained = train(model, data, training, OnExamples(perturbation=STEP), "x")
    x, y = data.val.batch(torch.arange(48))
    share = float((trained(x).argmax(dim=1) == y).float().mean())
    assert seen[-1].metrics["validation accuracy"] == pytest.approx(share)


def test_a_loss_that_is_no_number_ends_the_training(model: nn.Module, data: Data, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, lr=1e30, schedule="constant")
    training = Training(threat=data.threat, recipe=recipe, precision="fp32", directory=tmp_path)
    with pytest.raises(UsageError, match=r"diverged in epoch 1.*lr=1e\+30"):
        train(model, data, training, OnExamples(), "x")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_callers_modes_do_not_reach_the_training(model: nn.Module, data: Data) -> None:
    recipe = dataclasses.replace(RECIPE, ema=0.5)
    training = Training(threat=data.threat, recipe=recipe, precision="fp32")
    states = []
    for mode in (torch.enable_grad(), torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
        with mode:
            train(network, data, training, OnExamples(perturbation=STEP), "x")
        states.append(torch.cat([value.reshape(-1) for value in network.state_dict().values()]))
    assert all(torch.equal(state, states[0]) for state in states)


def test_what_a_killed_process_left_half_written_is_removed(model: nn.Module, data: Data, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt.4711.part").write_bytes(b"half")
    training = Training(threat=data.threat, recipe=RECIPE, precision="fp32", directory=tmp_path)
    train(model, data, training, OnExamples(), "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "tensorboard", "training.csv"]
