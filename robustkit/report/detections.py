"""Scores of detectors beside their thresholds, as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from robustkit.report.drawing import Drawing, look, new_figure
from robustkit.report.panels import legend, short

Record = Mapping[str, Any]
_DARK = "#1b2330"
_COLUMNS = ["detector", "scope", "defense", "seed", "group", "class", "quantile", "score", "limit", "flagged"]
_LABELS = {"model": "score of a class", "input": "score of an input", "dataset": "score of a training image"}


def scores(inspections: Sequence[Record]) -> pd.DataFrame:
    """One row a detector, model and class, or group of inputs and quantile.

    Columns: detector (with what it was asked about, where that could be two things), scope, defense, seed, group (of
    inputs: clean, or what was done to them; of models: "classes"), class, quantile (0.05 … 0.95), score, limit (the
    threshold; NaN: none), flagged (of classes).
    """
    rows: list[dict[str, Any]] = []
    several = len({record["eps"] for record in inspections if record["kind"] == "inputs"}) > 1
    for record in inspections:
        if record["error"] is not None or record["kind"] == "backdoor":
            continue
        about = {"detector": record["detector"], "defense": record["subject"], "seed": record["seed"]}
        about |= {"scope": record.get("scope", "input"), "limit": record.get("limit")}
        if record["kind"] == "detector" and about["scope"] == "input":
            about["detector"] += ", of triggered inputs"  # judged beside other images, on another scale
        for place, score in enumerate(record.get("by_class") or ()):
            flagged = bool(record["flagged"]) and place in record["classes"]
            rows.append(about | {"group": "classes", "class": place, "score": score, "flagged": flagged})
        for name, quantiles in (record.get("spread") or {}).items():
            group = name
            if name == "adversarial":
                group = f"{record['attack']} @ {record['eps']:g}" if several else record["attack"]
            rows += [about | {"group": group, "quantile": float(q), "score": score} for q, score in quantiles.items()]
    # clean inputs are the same for every attack of a model
    return pd.DataFrame(rows, columns=_COLUMNS).drop_duplicates(ignore_index=True)


def detection_scores(inspections: Sequence[Record], table: pd.DataFrame) -> Drawing | None:
    """A panel a detector: classes of models as marks, groups of inputs as bars, and the threshold of each model."""
    data = scores(inspections)
    if data.empty:
        return None
    models = list(dict.fromkeys([*table["defense"], *data["defense"]]))
    detectors = list(dict.fromkeys(data["detector"]))
    mine = {name: data[data["detector"] == name] for name in detectors}
    rows = {name: _rows(part, models) for name, part in mine.items()}
    heights = [
        0.85 + len(rows[name]) * (0.3 if _of_models(mine[name]) else max(0.3, 0.1 * len(models))) for name in mine
    ]
    figure = new_figure(7.2, sum(heights) + 0.6)
    grid = figure.subplots(len(detectors), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name in zip(grid, detectors, strict=True):
        part = mine[name]
        (_classes if _of_models(part) else _groups)(axes, part, rows[name], models)
        axes.set_yticks(range(len(rows[name])), [short(row, 30) for row in rows[name]])
        axes.set_ylim(len(rows[name]) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        for place in range(1, len(rows[name])):
            axes.axhline(place - 0.5, color="#e3e3e3", linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_title(short(name, 60))
        axes.set_xlabel(f"{_LABELS[part['scope'].iloc[0]]} (larger is more suspicious)")
    line = Line2D([], [], color=_DARK, linewidth=1.6, label="threshold")
    legend(figure, models, [line] if data["limit"].notna().any() else [])
    return Drawing("detections", "Detection scores", _caption(data), figure, data)


def _of_models(part: pd.DataFrame) -> bool:
    return bool((part["scope"] == "model").all())


def _rows(part: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """What stands at the left: models where classes are judged, else groups of inputs."""
    if _of_models(part):
        return [model for model in models if (part["defense"] == model).any()]
    return list(dict.fromkeys(part["group"]))


def _classes(axes: Axes, part: pd.DataFrame, rows: Sequence[str], models: Sequence[str]) -> None:
    for down, model in enumerate(rows):
        style = look(models.index(model))
        for flagged, marks in part[part["defense"] == model].groupby("flagged"):
            axes.plot(
                marks["score"],
                [down] * len(marks),
                linestyle="none",
                marker=style["marker"],
                markersize=6,
                markeredgecolor=style["color"],
                markerfacecolor=style["color"] if flagged else "white",
                clip_on=False,
            )
            for _, row in marks.iterrows() if flagged else ():
                axes.annotate(
                    f"class {row['class']:g}",
                    (row["score"], down),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                )
        _threshold(axes, part[part["defense"] == model], down, 0.42)


def _groups(axes: Axes, part: pd.DataFrame, rows: Sequence[str], models: Sequence[str]) -> None:
    reach = 0.42 / len(models)
    for place, model in enumerate(models):
        style = look(place)
        for (_, group), quantiles in part[part["defense"] == model].groupby(["seed", "group"]):
            down = rows.index(group) + 0.84 * ((place + 0.5) / len(models) - 0.5)
            at = quantiles.drop_duplicates("quantile").set_index("quantile")["score"]
            axes.plot([at[0.05], at[0.95]], [down] * 2, color=style["color"], linewidth=1)
            axes.plot([at[0.25], at[0.75]], [down] * 2, color=style["color"], linewidth=4, solid_capstyle="butt")
            axes.plot(
                at[0.5],
                down,
                marker=style["marker"],
                color=style["color"],
                markersize=5,
                markeredgecolor="white",
                markeredgewidth=0.6,
            )
            _threshold(axes, quantiles, down, reach)


def _threshold(axes: Axes, part: pd.DataFrame, down: float, reach: float) -> None:
    for limit in part["limit"].dropna().unique():
        axes.plot(
            [limit] * 2, [down - reach, down + reach], color=_DARK, linewidth=1.6, solid_capstyle="butt", zorder=3
        )


def _caption(data: pd.DataFrame) -> str:
    parts = []
    if (data["scope"] == "model").any():
        parts.append("A mark is a class of a model; filled and named where it is flagged.")
    if data["quantile"].notna().any():
        parts.append("Bars: the middle half of the scores, thin lines from 5 % to 95 % of them, a mark at the median.")
    if data["limit"].notna().any():
        parts.append("Dark line: the threshold of that model; what lies to the right of it is flagged.")
    return " ".join(parts)
