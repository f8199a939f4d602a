"""The picture of a training; its text is read from the SVG."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from robustkit.params import UsageError
from robustkit.report.training_curves import copy_history, draw_curves
from robustkit.training.history import NAME, History


def write(folder: Path, robust: list[float | None], collapsed: int = 0) -> Path:
    history = History(folder / NAME, 0)
    for number, share in enumerate(robust, 1):
        row = {"epoch": number, "step": number, "loss": 1 / number, "train accuracy": 0.5, "validation accuracy": 0.9}
        if share is not None:
            row["validation robust accuracy"] = share
        if number == collapsed:
            row["collapsed"] = 1.0
        history.add(row)
    return folder / NAME


def texts(picture: Path) -> str:
    """The text of an SVG; matplotlib keeps it in comments where it draws glyphs."""
    return picture.read_text()


def test_the_best_epoch_and_what_was_lost_are_told(tmp_path: Path) -> None:
    table = write(tmp_path, [0.3, 0.5, 0.61, 0.4])
    draw_curves(table, tmp_path / "a.svg", "pgd_at, $5")
    text = texts(tmp_path / "a.svg")
    assert "best robust accuracy 61.0 % in epoch 3, last 40.0 %" in text
    assert "pgd_at" in text
    assert "collapsed" not in text


def test_nothing_is_lost_where_the_last_is_the_best(tmp_path: Path) -> None:
    draw_curves(write(tmp_path, [0.3, 0.5]), tmp_path / "a.svg", "x")
    assert "best robust accuracy 50.0 % in epoch 2" in texts(tmp_path / "a.svg")
    assert "last" not in texts(tmp_path / "a.svg")


def test_a_collapse_is_marked(tmp_path: Path) -> None:
    draw_curves(write(tmp_path, [0.6, 0.1, 0.2], collapsed=2), tmp_path / "a.svg", "x")
    assert "collapsed" in texts(tmp_path / "a.svg")


def test_a_training_without_robust_accuracy_is_drawn_and_equal_tables_give_equal_files(tmp_path: Path) -> None:
    table = write(tmp_path, [None])
    for name in ("a", "b"):
        draw_curves(table, tmp_path / f"{name}.svg", "standard")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "robust" not in texts(tmp_path / "a.svg")
    draw_curves(table, tmp_path / "a.png", "standard")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 800
        assert len(picture.convert("L").getcolors() or ()) > 2


def test_no_table_is_told(tmp_path: Path) -> None:
    assert not copy_history(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="no epochs"):
        draw_curves(tmp_path / "none.csv", tmp_path / "a.svg", "x")
