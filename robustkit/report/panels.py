"""What figures are made of: panels, lines with their bands, marks with their intervals, a legend of models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, PercentFormatter, StrMethodFormatter

from robustkit.report.drawing import look, new_figure

_ACROSS = 3


def panels(titles: Sequence[str], across_label: str, up_label: str) -> tuple[Figure, list[Axes]]:
    """Axes of equal scale, one a title, a share upwards."""
    across = min(_ACROSS, len(titles))
    down = math.ceil(len(titles) / across)
    figure = new_figure(7.2 if across < _ACROSS else 9.0, 0.9 + (3.0 if across == 1 else 2.6) * down)
    found = list(figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat)
    for axes in found[len(titles) :]:
        axes.set_visible(False)
    for number, axes in enumerate(found[: len(titles)]):
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_title(short(titles[number], 40 if across < _ACROSS else 32))
        if number % across == 0:
            axes.set_ylabel(up_label)
        if number + across >= len(titles):
            axes.set_xlabel(across_label)
            axes.xaxis.set_tick_params(labelbottom=True)
    return figure, found[: len(titles)]


def logarithmic(axes: Axes) -> None:
    """The axis along x, with plain numbers: formulas are off, since names of plugins are text."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def curve(axes: Axes, data: pd.DataFrame, across: str, place: int) -> None:
    """Lines of the model in this place, one a seed, with their intervals as bands."""
    style = look(place)
    for _, line in data.groupby("seed"):
        axes.plot(line[across], line["accuracy"], color=style["color"], linestyle=style["linestyle"], linewidth=1.4)
        axes.fill_between(line[across], line["low"], line["high"], color=style["color"], alpha=0.13, linewidth=0)


def marks(axes: Axes, shares: Any, others: Any, data: pd.DataFrame, place: int, *, across: bool) -> None:
    """Marks with their intervals; `across` draws shares along x."""
    style = look(place)
    reach = np.stack([data["accuracy"] - data["low"], data["high"] - data["accuracy"]]).clip(min=0)  # (2, rows)
    axes.errorbar(
        *((shares, others) if across else (others, shares)),
        xerr=reach if across else None,
        yerr=None if across else reach,
        color=style["color"],
        marker=style["marker"],
        markersize=5,
        linestyle="none",
        elinewidth=1.2,
        capsize=2,
    )


def legend(figure: Figure, models: Sequence[str], more: Sequence[Line2D] = ()) -> None:
    """Below the figure: the models, and whatever else has to be told."""
    handles = [
        Line2D([], [], **look(place), linewidth=1.4, markersize=5, label=short(model, 30))
        for place, model in enumerate(models)
    ]
    handles += more
    longest = max(len(str(handle.get_label())) for handle in handles)
    across = min(len(handles), 4 if longest < 16 else 3 if longest < 24 else 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=across, fontsize=8)


def short(text: str, most: int) -> str:
    """In one line of at most so many letters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
