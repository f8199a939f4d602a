"""Which epoch's weights a training returns, and what it does when the robust accuracy collapses."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Recipe, Threat, Training, TrainingProgress
from robustkit.params import UsageError
from robustkit.pipeline.spec import apply_recipe
from robustkit.testing import small
from robustkit.training.keep import CLEAN, ROBUST, Keeper
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import WATCH, Perturbation

RECIPE = Recipe(epochs=5, batch_size=50, optimizer="adam", lr=0.01, schedule="constant", weight_decay=0.0)
THREAT = Threat("linf", 0.15)
PGD = Perturbation(start="uniform", steps=3, step_size=0.8)


@dataclass
class Collapsing:
    """PGD training that from its fourth epoch on learns to err on adversarial examples and be right on clean ones."""

    replays: int = 1
    watch: Perturbation | None = WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        memory["step"] = memory.get("step", torch.tensor(0)) + 1
        self.late = int(memory["step"]) > 3 * 8
        return PGD(model, x, y, threat)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        if not self.late:
            return F.cross_entropy(model(examples), y)
        clean, adversarial = model(torch.cat([x, examples])).chunk(2)
        return F.cross_entropy(clean, y) + F.cross_entropy(adversarial, (y + 1) % 10)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None


def run(epochs: int = 5, directory: Path | None = None, report=None, **recipe: object):  # type: ignore[no-untyped-def]
    """Weights and the metrics of each epoch."""
    seen: list[TrainingProgress] = []

    def note(progress: TrainingProgress) -> None:
        if CLEAN in progress.metrics:
            seen.append(progress)
        if report is not None:
            report(progress)

    made = dataclasses.replace(RECIPE, epochs=epochs, **recipe)  # type: ignore[arg-type]
    training = Training(threat=THREAT, recipe=made, precision="fp32", report=note, directory=directory)
    model = train(small.untrained(), small.data(), training, Collapsing(), "x")
    return torch.cat([value.reshape(-1).float() for value in model.state_dict().values()]), seen


@pytest.fixture(scope="module")
def good() -> Tensor:
    """The weights of before the collapse."""
    return run(epochs=3)[0]


def test_a_collapse_is_reported_once_and_the_training_goes_on() -> None:
    with pytest.warns(RuntimeWarning, match=r"catastrophic overfitting in epoch 4.*fell from .*collapse=stop"):
        _, seen = run()
    assert [progress.metrics.get("collapsed", 0) for progress in seen[:4]] == [0, 0, 0, 1]
    assert len(seen) == 5
    assert seen[2].metrics[ROBUST] > seen[3].metrics[ROBUST] + 0.2


def test_a_second_collapse_is_not_told_again() -> None:
    made = keeper(0.5, 0.6)
    worse = {ROBUST: 0.0, CLEAN: 1.0, "train accuracy": 0.9}
    with pytest.warns(RuntimeWarning, match="catastrophic"):
        made.epoch_done(2, worse, dict)
    assert made.collapsed(worse)
    assert made.epoch_done(3, worse, dict) is None  # a second warning would be an error


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_stop_ends_with_the_last_good_weights(ema: float) -> None:
    with pytest.warns(RuntimeWarning, match="ends with the weights of before"):
        weights, seen = run(collapse="stop", ema=ema)
    before, _ = run(epochs=len(seen) - 1, ema=ema)
    assert 4 <= len(seen) <= 5
    assert torch.equal(weights, before)


def test_rewind_goes_on_from_the_last_good_weights(good: Tensor, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="goes on with the weights of before"):
        weights, seen = run(collapse="rewind", directory=tmp_path)
    assert len(seen) == 5
    assert torch.equal(weights, good)  # the fifth epoch collapsed as well
    with pytest.warns(RuntimeWarning, match="catastrophic"):
        collapsed, _ = run(epochs=4)
    assert not torch.equal(collapsed, good)
    found = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert int(found["optimizer"]["state"][0]["step"]) == 3 * 8  # the optimiser went back, too


@pytest.mark.parametrize("collapse", ["stop", "rewind"])
def test_a_killed_training_remembers_what_was_kept(collapse: str, good: Tensor, tmp_path: Path) -> None:
    def stop(progress: TrainingProgress) -> None:
        if progress.epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(collapse=collapse, directory=tmp_path, report=stop)
    with pytest.warns(RuntimeWarning, match="catastrophic"):
        weights, _ = run(collapse=collapse, directory=tmp_path)
    assert torch.equal(weights, good)
    with warnings.catch_warnings():  # ended for good: nothing is trained again
        warnings.simplefilter("error")
        again, seen = run(collapse=collapse, directory=tmp_path)
    assert torch.equal(again, good)
    assert not seen


@pytest.mark.filterwarnings("ignore:catastrophic")
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_best_epoch_by_robust_accuracy_is_returned(ema: float) -> None:
    weights, seen = run(keep="best", ema=ema)
    scores = [progress.metrics[ROBUST] for progress in seen]
    best = max(range(5), key=lambda epoch: (scores[epoch], epoch))  # the later of two alike
    assert best < 4
    assert torch.equal(weights, run(epochs=best + 1, ema=ema)[0])


@pytest.mark.filterwarnings("ignore:catastrophic")
def test_patience_ends_a_training_that_gets_no_better() -> None:
    _, whole = run(epochs=7)
    scores = [progress.metrics[ROBUST] for progress in whole]
    best = max(range(7), key=lambda epoch: (scores[epoch], epoch))
    assert len(run(epochs=7, patience=2)[1]) == best + 3


def keeper(score: float, trained: float) -> Keeper:
    made = Keeper(RECIPE, None)
    made.epoch_done(1, {ROBUST: score, CLEAN: 1.0, "train accuracy": trained}, dict)
    return made


@pytest.mark.parametrize(
    ("robust", "trained", "expected"),
    [
        (0.29, 0.6, True),
        (0.31, 0.9, False),  # robust overfitting
        (0.05, 0.4, False),  # all falls: too large a learning rate
        (float("nan"), 0.9, False),
    ],
)
def test_a_collapse_is_a_fall_while_training_accuracy_stays(robust: float, trained: float, expected: bool) -> None:
    assert keeper(0.5, 0.6).collapsed({ROBUST: robust, CLEAN: 1.0, "train accuracy": trained}) == expected


def test_without_robust_accuracy_nothing_collapses_and_the_clean_one_decides() -> None:
    recipe = dataclasses.replace(RECIPE, keep="best")
    made = Keeper(recipe, None)
    for epoch, score in enumerate((0.4, 0.9, 0.1), start=1):
        metrics = {CLEAN: score, "train accuracy": 1.0}
        assert not made.collapsed(metrics)
        made.epoch_done(epoch, metrics, lambda score=score: {"model": score})  # type: ignore[misc]
    assert made.best == {"model": 0.9}


def test_fields_of_the_recipe_are_checked() -> None:
    made = apply_recipe(Recipe(), {"keep": "best", "patience": "3", "collapse": "stop"})
    assert (made.keep, made.patience, made.collapse) == ("best", 3, "stop")
    with pytest.raises(UsageError, match="collapse"):
        apply_recipe(Recipe(), {"collapse": "panic"})
    with pytest.raises(UsageError, match="patience"):
        apply_recipe(Recipe(), {"patience": -1})
