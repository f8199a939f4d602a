"""The figures of a report. Each function takes what a run holds and returns a drawing, or None without its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from robustkit.curves import ENVELOPE, query_curve
from robustkit.report.curves import curves
from robustkit.report.detections import detection_scores
from robustkit.report.drawing import Drawing, look, new_figure, styled
from robustkit.report.panels import curve, legend, logarithmic, marks, panels, short
from robustkit.report.promises import certified_accuracy
from robustkit.tables import WORST, Record, Samples, attack_columns, radii_of

_POINTS = 60


def drawings(
    records: Sequence[Record], table: pd.DataFrame, samples: Samples, inspections: Sequence[Record] = ()
) -> list[Drawing]:
    """All figures that the data allow, in the order of the page."""
    makers: tuple[Callable[[], Drawing | None], ...] = (
        lambda: accuracies(records, table),
        lambda: robustness_curves(records, table, samples),
        lambda: query_curves(records, table, samples),
        lambda: certified_accuracy(records, table, samples),
        lambda: cost(records, table),
        lambda: detection_scores(inspections, table),
    )
    with styled():
        made = [make() for make in makers]
    return [drawing for drawing in made if drawing is not None]


def accuracies(records: Sequence[Record], table: pd.DataFrame) -> Drawing | None:
    """Accuracy under each attack, one mark a model, with intervals."""
    names = ["clean", *attack_columns(records)]
    data = _long(table, names)
    if data.empty:
        return None
    models = _models(table)
    figure = new_figure(7.2, 1.3 + len(names) * max(0.3, 0.085 * len(models)))
    axes = figure.subplots()
    for place, model in enumerate(models):
        mine = data[data["defense"] == model]
        offset = 0.7 * ((place + 0.5) / len(models) - 0.5)
        down = [names.index(name) + offset for name in mine["attack"]]
        marks(axes, mine["accuracy"], down, mine, place, across=True)
    axes.set_yticks(range(len(names)), [short(name, 34) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color="#e3e3e3", linewidth=0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("accuracy (share of test images)")
    legend(figure, models)
    caption = (
        "Share of test images that are right on the clean input and stay right under the attack, with 95 % intervals "
        "(Wilson). What failed has no mark."
    )
    return Drawing("accuracies", "Accuracy under each attack", caption, figure, data)


def robustness_curves(records: Sequence[Record], table: pd.DataFrame, samples: Samples) -> Drawing | None:
    """Robust accuracy against ε: a line a minimum-norm attack, marks for the worst case at the bench's ε."""
    lines = curves(records, samples)
    radii = radii_of(records)
    worst = _worst(records, table, radii)
    if lines.empty and len(radii) < 2:
        return None
    models = _models(table)
    attacks = list(dict.fromkeys(lines["attack"])) or [WORST]
    titles = ["all attacks together" if attack == ENVELOPE else attack for attack in attacks]
    figure, plots = panels(titles, f"ε ({records[0]['threat']['norm']}, images in [0, 1])", "robust accuracy")
    for attack, axes in zip(attacks, plots, strict=True):
        for place, model in enumerate(models):
            curve(axes, lines[(lines["attack"] == attack) & (lines["defense"] == model)], "eps", place)
            mine = worst[worst["defense"] == model]
            marks(axes, mine["accuracy"], mine["eps"], mine, place, across=False)
        axes.set_xlim(left=0)
    legend(figure, models)
    caption = (
        "Lines: share of images for which the attack of that panel, or any, found nothing within ε, from the distances "
        "that were measured, with 95 % intervals. Marks: the worst case over all attacks at the ε of the bench."
        if not lines.empty
        else "The worst case over all attacks at each ε of the bench, with 95 % intervals."
    )
    return Drawing("curves", "Robustness curves", caption, figure, pd.concat([lines, worst], ignore_index=True))


def query_curves(records: Sequence[Record], table: pd.DataFrame, samples: Samples) -> Drawing | None:
    """Robust accuracy against queries: a panel for each attack that counts them and each ε, a line a model."""
    whole = query_curve(records, samples)
    if whole.empty or not whole["queries"].max():
        return None
    most = int(whole["queries"].max())
    grid = np.unique(np.geomspace(1, most, _POINTS).round().astype(int))
    lines = query_curve(records, samples, grid.tolist()).rename(columns={"robust": "accuracy"})
    keys = list(dict.fromkeys(zip(lines["attack"], lines["eps"], strict=True)))
    several = len({eps for _, eps in keys}) > 1
    models = _models(table)
    titles = [f"{short(attack, 28)}, ε {eps:.3g}" if several else attack for attack, eps in keys]
    figure, plots = panels(titles, "queries a sample", "robust accuracy")
    for (attack, eps), axes in zip(keys, plots, strict=True):
        for place, model in enumerate(models):
            mine = lines[(lines["attack"] == attack) & (lines["eps"] == eps) & (lines["defense"] == model)]
            curve(axes, mine, "queries", place)
        logarithmic(axes)
        axes.set_xlim(1, max(most, 2))
    legend(figure, models)
    caption = (
        "Share of images that are right on the clean input and still right after so many queries of the attack in that "
        "panel, with 95 % intervals. A query is one image passed through the network; each image has its own count, "
        "which ends where it falls."
    )
    return Drawing("queries", "Robust accuracy against queries", caption, figure, lines)


def cost(records: Sequence[Record], table: pd.DataFrame) -> Drawing | None:
    """Worst case at the largest ε against the seconds a training took."""
    radii = radii_of(records)
    if not radii:
        return None
    name = attack_columns(records)[-1]
    data = _long(table, ["clean", name])
    seconds = {(row["defense"], row["seed"]): row["training seconds"] for row in table.to_dict("records")}
    data["training seconds"] = [seconds[key] for key in zip(data["defense"], data["seed"], strict=True)]
    data = data.dropna(subset="training seconds")
    if len(set(data["training seconds"])) < 2:
        return None
    models = _models(table)
    figure = new_figure(7.2, 3.6)
    axes = figure.subplots()
    for place, model in enumerate(models):
        mine = data[(data["defense"] == model) & (data["attack"] == name)]
        marks(axes, mine["accuracy"], mine["training seconds"], mine, place, across=False)
        clean = data[(data["defense"] == model) & (data["attack"] == "clean")]
        style = look(place)
        axes.plot(
            clean["training seconds"],
            clean["accuracy"],
            linestyle="none",
            marker=style["marker"],
            markerfacecolor="white",
            markeredgecolor=style["color"],
            markersize=6,
        )
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("accuracy")
    axes.set_xlabel("training time (s)")
    if data["training seconds"].max() > 20 * data["training seconds"].min() > 0:
        logarithmic(axes)
    else:
        axes.set_xlim(left=0)
    legend(figure, models)
    caption = (
        f"Filled: {name}, with 95 % intervals. Hollow: clean accuracy. Up and to the left is better. "
        "Times are of the machine named below; a model from the cache keeps the time of its training."
    )
    return Drawing("cost", "Accuracy against training cost", caption, figure, data)


def _models(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table["defense"]))


def _long(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """One row a model and column of accuracies that has a number."""
    rows = [
        {
            "defense": row["defense"],
            "seed": row["seed"],
            "attack": name,
            "accuracy": row[name],
            "low": row[f"{name} low"],
            "high": row[f"{name} high"],
        }
        for row in table.to_dict("records")
        for name in names
        if not math.isnan(row.get(name, math.nan))
    ]
    return pd.DataFrame(rows, columns=["defense", "seed", "attack", "accuracy", "low", "high"])


def _worst(records: Sequence[Record], table: pd.DataFrame, radii: Sequence[float]) -> pd.DataFrame:
    """The worst case at each ε of the bench, and clean accuracy as ε = 0 where it is a curve of marks alone."""
    names = attack_columns(records)[-len(radii) :] if radii else []
    data = _long(table, names)
    data["eps"] = [radii[names.index(name)] for name in data["attack"]]
    data["attack"] = WORST
    data["norm"] = records[0]["threat"]["norm"]
    return data
