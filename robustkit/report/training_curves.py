"""Accuracies of a training by epoch, as a picture: where robustness is lost again while training goes on."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustkit.files import copy_atomically
from robustkit.params import UsageError
from robustkit.training.history import NAME, Row, read

_CLEAN, _ROBUST, _TRAIN, _FELL = "#555555", "#1f5fa8", "#b8b8b8", "#b2182b"


def copy_history(folder: Path, directory: Path) -> bool:
    """Copy a training's table of epochs into `directory`, by rename; whether there is one."""
    source = folder / NAME
    if not source.is_file():
        return False
    copy_atomically(source, directory / NAME)
    return True


def draw_curves(table: Path, path: Path, title: str) -> None:
    """Draw clean and robust accuracy on validation data by epoch, and the loss below.

    The epoch with the highest robust accuracy is marked, and what was lost since then.

    Args:
        table: a `training.csv`.
        path: of the picture, by suffix .svg, .png or .pdf.
        title: above it.

    Raises:
        UsageError: the table has no rows.
    """
    rows = read(table)
    if not rows:
        raise UsageError(f"{table} has no epochs to draw; train for one at least")
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for name, words, colour, style in (
        ("train_accuracy", "training examples", _TRAIN, ":"),
        ("validation_accuracy", "validation, clean", _CLEAN, "-"),
        ("validation_robust_accuracy", "validation, robust", _ROBUST, "-"),
    ):
        _line(upper, rows, name, words, colour, style)
    _mark_best(upper, rows)
    upper.set(ylabel="accuracy (%)", ylim=(0, 101))
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    lower.plot([row["epoch"] for row in rows], [row["loss"] for row in rows], color=_CLEAN, marker=".")
    lower.margins(y=0.15)
    lower.set(xlabel="epoch", ylabel="loss", xlim=(0.5, None))
    lower.set_ylim(bottom=0)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (upper, lower):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "robustkit"}):  # equal tables give equal files
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _line(axes: Axes, rows: list[Row], name: str, words: str, colour: str, style: str) -> None:
    known = [(row["epoch"], 100 * row[name]) for row in rows if row[name] is not None]  # type: ignore[operator]
    if known:
        axes.plot(*zip(*known, strict=True), color=colour, linestyle=style, marker=".", label=words)


def _mark_best(axes: Axes, rows: list[Row]) -> None:
    """A line at the best epoch, a band down to the last one where that is worse, and crosses where it collapsed."""
    known = [(row["epoch"], row["validation_robust_accuracy"]) for row in rows]
    points = [(epoch, 100 * share) for epoch, share in known if epoch is not None and share is not None]
    if not points:
        return
    best, top = max(points, key=lambda point: point[1])
    last, end = points[-1]
    axes.axvline(best, color=_ROBUST, alpha=0.35, linewidth=1)
    words = f"best robust accuracy {top:.1f} % in epoch {best:.0f}"
    if top - end >= 0.05:
        words += f", last {end:.1f} %"
        axes.fill_between([best, last], [end, end], [top, top], color=_ROBUST, alpha=0.10, linewidth=0)
    axes.text(1, 1.015, words, transform=axes.transAxes, color=_ROBUST, fontsize=9, ha="right", va="bottom")
    collapsed = {row["epoch"] for row in rows if row["collapsed"]}
    fallen = [point for point in points if point[0] in collapsed]
    if fallen:
        axes.plot(*zip(*fallen, strict=True), "x", color=_FELL, markersize=8, label="collapsed")
