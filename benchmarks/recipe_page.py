"""Where a recipe works and writes, and what all its parts put on the page: comparisons and figures."""

from __future__ import annotations

import shutil
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from robustkit.api import BenchResult
from robustkit.engine.statistics import wilson
from robustkit.report.drawing import Drawing, look, new_figure, save, styled
from robustkit.report.figures import drawings
from robustkit.report.files import markdown
from robustkit.report.footer import footer
from robustkit.report.format import interval, readable
from robustkit.tables import attack_columns, comparison

READING = (
    "Accuracies in percent with 95 % intervals (Wilson). The worst case over attacks, sample by sample, is an upper "
    "bound on robustness. ASR: share of what was right before that the attacks brought down. Every verdict is in "
    "float32. Training seconds are wall time, which other load on the machine lengthens.\n"
)
_LEFT_OUT = ("passes", "attack s", "violations")


@dataclass(frozen=True)
class Trained:
    """Args: name in the recipe, file of weights, name of its data, architecture, provenance."""

    name: str
    path: Path
    data: str
    model: str
    about: Mapping[str, Any]

    @property
    def dataset(self) -> str:
        return f"recipe_data:{self.data}"


@dataclass(frozen=True)
class Place:
    """Args: folder that is kept between calls, folder of the page, and how its pictures' names begin."""

    work: Path
    results: Path
    stem: str

    def picture(self, path: Path, name: str, title: str, caption: str = "") -> str:
        """Copies a picture beside the page; the words that show it."""
        target = self.results / f"{self.stem}_{name}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return f"![{title}]({target.name})\n\n{caption}".rstrip() + "\n"

    def drawn(self, drawing: Drawing, name: str) -> str:
        """Saves a figure; the words that show it."""
        save([drawing], self.work / "figures" / name)
        path = self.work / "figures" / name / f"{drawing.name}.svg"
        return self.picture(path, f"{name}_{drawing.name}", drawing.title, drawing.caption)


def compared(results: Sequence[BenchResult], place: Place, name: str, figures: Sequence[str]) -> str:
    """One table of several benches of the same images, with its notes, and the report's figures of these names."""
    records = [record for result in results for record in result.records]
    samples = ChainMap(*(dict(result.samples.items()) for result in results))
    table = comparison(records, samples.__getitem__)
    shown = readable(table, records)
    if set(shown["status"]) == {"ok"}:
        shown = shown.drop(columns="status")
    if set(shown["training s"]) == {"–"}:
        shown = shown.drop(columns="training s")
    shown = shown.drop(columns=[column for column in _LEFT_OUT if column in shown.columns])
    which, _, _, *more = footer(records, results[0].environment)  # what the page says once is left out
    said = [markdown(shown, [which, *more])]
    made = {drawing.name: drawing for drawing in drawings(records, table, samples.__getitem__)}
    made["ranking"] = _ranking(table, attack_columns(records)[-1])
    said += [place.drawn(made[wanted], name) for wanted in figures if wanted in made]
    return "\n".join(said)


def _ranking(table: pd.DataFrame, worst: str) -> Drawing:
    """A line a model, the best worst case first: more models than colours tell apart."""
    rows = table.dropna(subset=worst).sort_values(worst, ascending=False, kind="stable")
    with styled():
        figure = new_figure(7.2, 1.0 + 0.26 * len(rows))
        axes = figure.subplots()
        for place, (name, words) in enumerate(((worst, worst), ("clean", "clean"))):
            style = {**look(place), "linestyle": "none"}
            reach = np.stack([rows[name] - rows[f"{name} low"], rows[f"{name} high"] - rows[name]]).clip(min=0)
            axes.errorbar(rows[name], range(len(rows)), xerr=reach, **style, markersize=5, capsize=2, label=words)
        axes.set_yticks(range(len(rows)), rows["defense"])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("accuracy (share of test images)")
        figure.legend(loc="outside lower center", ncols=2)
    caption = "Accuracy without an attack and the worst case over all attacks, with 95 % intervals (Wilson)."
    return Drawing("ranking", "Clean accuracy and worst case", caption, figure, rows)


def share(hits: int, count: int) -> str:
    """A share of images in percent with its interval."""
    return interval(hits / count, *wilson(hits, count))


def mean(values: np.ndarray) -> str:
    """A mean with half the width of its 95 % interval (normal approximation)."""
    if len(values) < 2:
        return "–"
    return f"{values.mean():.3f} ± {1.96 * values.std(ddof=1) / len(values) ** 0.5:.3f}"
