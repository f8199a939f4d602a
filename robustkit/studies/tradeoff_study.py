"""`tradeoff`: what does robustness cost in accuracy?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from robustkit.contracts import Data, Threat, Training
from robustkit.data.splits import ArraySplit, in_memory
from robustkit.engine.statistics import wilson
from robustkit.evaluation import evaluate
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.params import UsageError
from robustkit.report.drawing import Drawing, look, new_figure, styled
from robustkit.studies.networks import ROBUST, data_of, usual_l2
from robustkit.studies.study import Study
from robustkit.studies.tsipras import Distribution, trained

_SHARES = (0.0, 0.5, 1.0)
_ATTACK = "pgd:steps=20"
_SAMPLES = 4000


def tradeoff(
    *,
    dataset: str = "mnist_10k",
    model: str = "cnn",
    epochs: int = 3,
    limit: int = 500,
    sizes: Sequence[int] = (500, 2000, 0),
    seed: int = 0,
    data_dir: str | None = None,
) -> Study:
    """Standard and robust accuracy over training ε and training set size, in L2 and Linf; and the paper's distribution.

    Args:
        dataset, model, data_dir: as for a bench.
        epochs, seed: of the trainings; smaller sets are gone through more often, up to five times as often.
        limit: test images that are judged.
        sizes: images of the training set that are used; 0 is all.
    """
    data = data_of(dataset, data_dir)
    usual = Threat("linf", data.threat.eps if data.threat.norm == "linf" else 8 / 255)
    rows = [
        row
        for threat in (usual, Threat("l2", usual_l2(data)))
        for size in sizes
        for row in _measured(data, model, threat, size, epochs, limit, seed)
    ]
    table = pd.DataFrame(rows)
    synthetic = synthetic_table(Distribution(), seed)
    return Study(
        name="tradeoff",
        title="What does robustness cost in accuracy?",
        text=[*_synthetic_text(Distribution(), synthetic), *_text(table)],
        tables={"networks": table, "synthetic": synthetic},
        drawings=[_draw_synthetic(Distribution(), synthetic), _draw(table)],
    )


def synthetic_table(distribution: Distribution, seed: int, samples: int = _SAMPLES) -> pd.DataFrame:
    """Of each training ε: the closed-form optimum beside the trained model, in its closed form and on fresh samples."""
    x, y = distribution.draw(samples, seed)
    fresh, labels = distribution.draw(samples, seed + 1)
    attack = 2 * distribution.eta
    rows = []
    for times in (0.0, 0.5, 1.0, 1.5, 2.0):
        eps = times * distribution.eta
        w = trained(x, y, eps)
        share, _ = distribution.best(eps)
        best = distribution.alike(share)
        margins = labels * (fresh @ w)
        row: dict[str, Any] = {"training ε / η": times, "weight on the robust feature": abs(w[0]) / np.abs(w).sum()}
        row["same, optimum"] = share
        for name, size in (("standard", 0.0), ("robust", attack)):
            hits = int((margins - size * np.abs(w).sum() > 0).sum())
            low, high = wilson(hits, samples)
            row |= {
                f"{name}": distribution.accuracy(w, size),
                f"{name}, optimum": distribution.accuracy(best, size),
                f"{name}, samples": hits / samples,
                f"{name}, low": low,
                f"{name}, high": high,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _measured(
    data: Data, model: str, threat: Threat, size: int, epochs: int, limit: int, seed: int
) -> list[dict[str, Any]]:
    """One network a training ε, judged clean and at the whole radius."""
    host = default_host()
    whole = in_memory(data.train)
    if whole is None:
        raise UsageError(
            f"{data.name} is not held in memory, so that no part of it can be taken; try mnist_10k or cifar10"
        )
    count = min(size or len(whole), len(whole))
    part = dataclasses.replace(data, train=ArraySplit(whole.images[:count], whole.labels[:count]))
    often = min(5, max(1, len(whole) // count))
    recipe = dataclasses.replace(data.recipe, epochs=epochs * often, batch_size=min(data.recipe.batch_size, count))
    x, y = data.test.batch(torch.arange(min(limit, len(data.test))))
    rows = []
    for share in _SHARES:
        now = Threat(threat.norm, share * threat.eps)
        network = build_model(model, part, host=host, seed=seed)
        training = Training(threat=now, recipe=recipe, seed=seed, precision="fp32")
        defense = host.build("defense", ROBUST if share else "standard")
        network = defense.value(network, part, training).eval()
        result = evaluate(network, (x, y), _ATTACK, threat, precision="fp32", seed=seed, host=host).table.iloc[0]
        rows.append(
            {"norm": threat.norm, "training images": count, "training ε": now.eps, "attack ε": threat.eps, "n": len(x)}
            | {
                f"{name}{end}": float(result[f"{column}{end}"])
                for name, column in (("clean", "clean"), ("robust", _ATTACK))
                for end in ("", " low", " high")
            }
        )
    return rows


def _synthetic_text(distribution: Distribution, table: pd.DataFrame) -> list[str]:
    first, last = table.iloc[0], table.iloc[-1]
    limit = distribution.accuracy(distribution.alike(0.0), 0.0)
    return [
        f"Synthetic distribution (Tsipras et al. 2019, arXiv:1805.12152; p = {distribution.p:g}, d = {distribution.d}, "
        f"η = {distribution.eta:g}): the mean of the {distribution.d} weak features alone is right with probability "
        f"Φ(η√d) = {100 * limit:.2f} %, the robust feature alone with p = {100 * distribution.p:.0f} %, whatever an "
        "adversary with ε < 1 does. Under ε = 2η the weak features point the other way.",
        f"Trained without an adversary the linear model is right on {100 * first['standard']:.2f} % (optimum "
        f"{100 * first['standard, optimum']:.2f} %) and on {100 * first['robust']:.2f} % under ε = 2η; trained against "
        f"ε = 2η on {100 * last['standard']:.2f} % (optimum {100 * last['standard, optimum']:.2f} %) and "
        f"{100 * last['robust']:.2f} % (optimum {100 * last['robust, optimum']:.2f} %).",
    ]


def _text(table: pd.DataFrame) -> list[str]:
    said = []
    for (norm, count), mine in table.groupby(["norm", "training images"], sort=False):
        plain, hard = mine.iloc[0], mine.iloc[-1]
        said.append(
            f"{norm}, {count} training images: training against ε = {hard['training ε']:.3g} takes clean accuracy "
            f"from {100 * plain['clean']:.1f} % [{100 * plain['clean low']:.1f}, {100 * plain['clean high']:.1f}] to "
            f"{100 * hard['clean']:.1f} % [{100 * hard['clean low']:.1f}, {100 * hard['clean high']:.1f}], robust "
            f"accuracy from {100 * plain['robust']:.1f} % to {100 * hard['robust']:.1f} %."
        )
    return said


def _draw_synthetic(distribution: Distribution, table: pd.DataFrame) -> Drawing:
    shares = np.linspace(0, 1, 101)
    with styled():
        figure = new_figure(7.2, 3.6)
        axes = figure.subplots()
        curves = {}
        for place, (name, eps) in enumerate((("standard", 0.0), ("robust", 2 * distribution.eta))):
            style = look(place)
            curves[name] = [distribution.accuracy(distribution.alike(share), eps) for share in shares]
            axes.plot(shares, curves[name], color=style["color"], label=f"{name}, closed form (ε = {eps:g})")
            counted = table[f"{name}, samples"]
            reach = np.stack([counted - table[f"{name}, low"], table[f"{name}, high"] - counted])
            axes.errorbar(
                table["weight on the robust feature"],
                counted,
                yerr=reach.clip(min=0),
                color=style["color"],
                marker=style["marker"],
                linestyle="none",
                capsize=2,
                label=f"{name}, trained models on samples",
            )
        axes.set_xlabel("share of the weight on the robust feature")
        axes.set_ylabel("accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(loc="outside lower center", ncols=2)
    data = pd.concat([pd.DataFrame({"share": shares, **curves}), table], ignore_index=True)
    caption = (
        "Lines: models that treat the weak features alike. Marks: models trained against ε = 0, η/2, η, 3η/2 and 2η."
    )
    return Drawing("tradeoff_synthetic", "Accuracy against robustness, in closed form", caption, figure, data)


def _draw(table: pd.DataFrame) -> Drawing:
    norms = list(dict.fromkeys(table["norm"]))
    with styled():
        figure = new_figure(7.2, 3.2 * len(norms) + 0.4)
        grid = figure.subplots(len(norms), 2, squeeze=False, sharey=True)
        for row, norm in enumerate(norms):
            for column, name in enumerate(("clean", "robust")):
                axes = grid[row][column]
                for place, (count, mine) in enumerate(table[table["norm"] == norm].groupby("training images")):
                    style = look(place)
                    reach = np.stack([mine[name] - mine[f"{name} low"], mine[f"{name} high"] - mine[name]])
                    axes.errorbar(
                        mine["training ε"],
                        mine[name],
                        yerr=reach.clip(min=0),
                        **style,
                        capsize=2,
                        label=f"{count} images",
                    )
                axes.set_title(f"{norm}: {name}")
                axes.set_xlabel("training ε")
                axes.set_ylim(-0.02, 1.02)
                axes.yaxis.set_major_formatter(PercentFormatter(1))
            grid[row][0].set_ylabel("accuracy")
        _legend(figure, grid[0][0])
    radii = ", ".join(f"{norm} ε = {table[table['norm'] == norm]['attack ε'].iloc[0]:g}" for norm in norms)
    caption = f"Robust: under {_ATTACK} at {radii}. Intervals are of 95 % (Wilson)."
    return Drawing("tradeoff", "Clean and robust accuracy over training ε", caption, figure, table)


def _legend(figure: Figure, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, math.ceil(len(labels) / 2)))
