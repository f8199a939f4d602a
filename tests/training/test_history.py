"""The table of epochs: whole rows, there while the training goes on, none twice after a kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from robustkit.contracts import Data, TrainingProgress
from robustkit.training.history import COLUMNS, NAME, History, read
from robustkit.training.loop import train
from robustkit.training.method import OnExamples
from robustkit.training.perturbation import Perturbation
from tests.training.conftest import make_model, make_training

STEP = Perturbation(start="clean", steps=1, step_size=1.0)


def test_a_training_writes_a_row_after_each_epoch(data: Data, tmp_path: Path) -> None:
    lines: list[int] = []
    metrics: list[dict[str, float]] = []

    def look(progress: TrainingProgress) -> None:
        if "validation accuracy" in progress.metrics:
            lines.append(len((tmp_path / NAME).read_text().splitlines()))
            metrics.append(dict(progress.metrics))

    train(make_model(), data, make_training(directory=tmp_path, report=look), OnExamples(perturbation=STEP), "x")
    assert lines == [2, 3, 4, 5]  # the header and the epochs so far
    table = pd.read_csv(tmp_path / NAME)
    assert tuple(table.columns) == COLUMNS
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["step"].tolist() == [4, 8, 12, 16]
    for name in ("loss", "train accuracy", "validation accuracy", "validation robust accuracy"):
        assert table[name.replace(" ", "_")].tolist() == pytest.approx([m[name] for m in metrics], rel=1e-4)
    assert (table["seconds"] > 0).all()
    assert table["learning_rate"].tolist() == [0.05] * 4


def test_a_training_that_goes_on_has_every_epoch_once(data: Data, tmp_path: Path) -> None:
    def stop(progress: TrainingProgress) -> None:
        if progress.epoch == 3 and "validation accuracy" in progress.metrics:
            raise KeyboardInterrupt  # the row is written, the checkpoint is not

    training = make_training(directory=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(make_model(), data, dataclasses.replace(training, report=stop), OnExamples(), "x")
    assert [row["epoch"] for row in read(tmp_path / NAME)] == [1, 2, 3]
    with (tmp_path / NAME).open("a") as file:
        file.write("4,16,0.1")  # torn
    train(make_model(), data, training, OnExamples(), "x")
    assert [row["epoch"] for row in read(tmp_path / NAME)] == [1, 2, 3, 4]
    assert read(tmp_path / NAME)[0]["validation_robust_accuracy"] is None


def test_what_is_no_such_table_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing.csv") == []
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert read(tmp_path / "other.csv") == []
    History(tmp_path / "other.csv", 0).add({"epoch": 1, "loss": 0.5})
    assert read(tmp_path / "other.csv")[0]["loss"] == 0.5
