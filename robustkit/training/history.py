"""`training.csv`: one row an epoch, there to be read while the training goes on."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from robustkit.files import replacing

NAME = "training.csv"
COLUMNS = (
    "epoch",
    "step",
    "loss",
    "train_accuracy",
    "validation_accuracy",
    "validation_robust_accuracy",
    "collapsed",
    "learning_rate",
    "seconds",
)

Row = dict[str, float | None]


class History:
    """Appends a row after each epoch and flushes it.

    Args:
        path: of the file.
        epochs: done before; rows of later ones, which a killed process left, are dropped, and so is a torn last row.
    """

    def __init__(self, path: Path, epochs: int) -> None:
        self._path = path
        earlier = [row for row in read(path) if int(row["epoch"] or 0) <= epochs]
        with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(COLUMNS)
            csv.writer(file).writerows([[_text(row[name]) for name in COLUMNS] for row in earlier])

    def add(self, values: Mapping[str, float]) -> None:
        """Add the row of an epoch; names may have spaces, what a column has no value for stays empty."""
        found = {name.replace(" ", "_"): value for name, value in values.items()}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([_text(found.get(name)) for name in COLUMNS])
            file.flush()
            os.fsync(file.fileno())


def read(path: Path) -> list[Row]:
    """The whole rows of a `training.csv`, in order; none where there is no such file or it has other columns."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    if not lines or tuple(lines[0]) != COLUMNS:
        return []
    whole = [line for line in lines[1:] if len(line) == len(COLUMNS)]
    return [{name: float(cell) if cell else None for name, cell in zip(COLUMNS, line, strict=True)} for line in whole]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
