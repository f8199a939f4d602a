"""`linear`: what an adversary does to a linear model, and what training against it does, in two dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from torch import Tensor, nn

from robustkit.attacks.fgsm import FGSM
from robustkit.contracts import Threat
from robustkit.report.drawing import COLORS, Drawing, new_figure, styled
from robustkit.studies.linear_models import (
    Ball,
    Loss,
    fit,
    losses,
    margins,
    objective,
    worst_margins,
    worst_points,
)
from robustkit.studies.study import Study

_LOSSES: tuple[Loss, ...] = ("hinge", "logistic")
_BALLS: tuple[Ball, ...] = ("l2", "linf")
_NAMES = {"l2": "L2", "linf": "Linf"}


def linear(*, seed: int = 0, count: int = 80, eps: float = 0.08, penalty: float = 1e-4) -> Study:
    """Closed-form worst cases, adversarial training beside the soft-margin SVM, FGSM as the exact maximiser.

    Args:
        seed: of the points.
        count: points of both classes together, in [0, 1]².
        eps: radius of the adversary, below 0.1, so that no ball leaves the box.
        penalty: weight of ‖w‖₂²/2.
    """
    x, y = points(count, seed)
    rows, models = [], {}
    for loss in _LOSSES:
        svm = models[loss, "none"] = fit(x, y, loss=loss, penalty=penalty)
        rows.append(_row(x, y, eps, penalty, loss, "none", svm, svm))
        for norm in _BALLS:
            models[loss, norm] = fit(x, y, loss=loss, norm=norm, eps=eps, penalty=penalty)
            rows.append(_row(x, y, eps, penalty, loss, norm, models[loss, norm], svm))
    table = pd.DataFrame(rows)
    gap, tried = fgsm_gap(*models["logistic", "none"], x, y, eps)
    return Study(
        name="linear",
        title="What is the worst case of a linear model, and does training against it help?",
        text=_text(table, eps, gap, tried),
        tables={"models": table},
        drawings=[_draw(x, y, eps, models)],
    )


def points(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x (N, 2) in [0.1, 0.9]² and y (N,) of −1 and +1: two stretched clouds that overlap a little."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    spread = rng.normal(size=(count, 2)) * [0.14, 0.06]
    x = np.array([0.5, 0.5]) + y[:, None] * np.array([0.09, 0.13]) + spread
    return np.clip(x, 0.1, 0.9), y


class TwoLogits(nn.Module):
    """A linear model as a network: logits (0, w·x + b), whose cross-entropy is the logistic loss."""

    def __init__(self, w: np.ndarray, b: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.b = b

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).double() @ self.w + self.b
        return torch.stack([torch.zeros_like(score), score], dim=1)


def fgsm_gap(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, eps: float) -> tuple[float, int]:
    """Largest |closed-form worst logistic loss − loss at FGSM's point|, and how many points were right and tried."""
    right = margins(w, b, x, y) > 0
    images = torch.tensor(x[right], dtype=torch.float32)[:, None, None, :]  # (N, 1, 1, 2)
    labels = torch.tensor((y[right] > 0).astype(np.int64))
    moved = FGSM()(TwoLogits(w, b), images, labels, Threat("linf", eps)).double().flatten(1).numpy()
    reached = losses(margins(w, b, moved, y[right]), "logistic")
    closed = losses(worst_margins(w, b, x[right], y[right], "linf", eps), "logistic")
    return float(np.abs(reached - closed).max()), int(right.sum())


def _row(
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    penalty: float,
    loss: Loss,
    norm: str,
    model: tuple[np.ndarray, float],
    svm: tuple[np.ndarray, float],
) -> dict[str, Any]:
    w, b = model
    cosine = float(w @ svm[0] / (np.linalg.norm(w) * np.linalg.norm(svm[0])))
    return {
        "loss": loss,
        "trained against": norm,
        "accuracy": float((margins(w, b, x, y) > 0).mean()),
        **{
            f"robust accuracy {_NAMES[ball]}": float((worst_margins(w, b, x, y, ball, eps) > 0).mean())
            for ball in _BALLS
        },
        **{
            f"objective {_NAMES[ball]}": objective(w, b, x, y, loss=loss, norm=ball, eps=eps, penalty=penalty)
            for ball in _BALLS
        },
        "‖w‖₂": float(np.linalg.norm(w)),
        "turned by °": math.degrees(math.acos(min(1.0, cosine))),
    }


def _text(table: pd.DataFrame, eps: float, gap: float, tried: int) -> list[str]:
    by = {(row["loss"], row["trained against"]): row for row in table.to_dict("records")}
    said = []
    for loss in _LOSSES:
        plain, l2, linf = (by[loss, norm] for norm in ("none", "l2", "linf"))
        said.append(
            f"With {loss} loss, training against L2 balls takes the mean worst-case loss with its penalty in L2 from "
            f"{plain['objective L2']:.3f} to {l2['objective L2']:.3f}, training against Linf balls that in Linf from "
            f"{plain['objective Linf']:.3f} to {linf['objective Linf']:.3f}. The length of the weights goes from "
            f"{plain['‖w‖₂']:.1f} to {l2['‖w‖₂']:.1f} and {linf['‖w‖₂']:.1f}, and the line turns by "
            f"{l2['turned by °']:.1f}° and {linf['turned by °']:.1f}°."
        )
    return [
        f"The worst case within ε = {eps:g} of a linear model lies at x − y·ε·w/‖w‖₂ (L2) or x − y·ε·sign(w) "
        "(Linf): the margin falls by ε‖w‖₂ or ε‖w‖₁, the same for every point. Adversarial training of a "
        "linear model is therefore "
        "ordinary training on smaller margins: a penalty on the size of w, inside the loss. The soft-margin SVM (hinge "
        "loss, trained against none) has its penalty outside.",
        *said,
        f"FGSM is exact here: on {tried} points its logistic loss is the closed-form maximum up to {gap:.1e}.",
    ]


def _draw(x: np.ndarray, y: np.ndarray, eps: float, models: dict[tuple[Loss, str], Any]) -> Drawing:
    with styled():
        figure = new_figure(8.2, 8.4)
        grid = figure.subplots(2, 2, sharex=True, sharey=True)
        for row, loss in enumerate(_LOSSES):
            for column, norm in enumerate(_BALLS):
                axes = grid[row][column]
                _panel(axes, x, y, eps, norm, models[loss, "none"], models[loss, norm])
                axes.set_title(f"{loss} loss, {_NAMES[norm]} balls of ε = {eps:g}")
                if row == 1:
                    axes.set_xlabel("x₁")
                if column == 0:
                    axes.set_ylabel("x₂")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    lines = [
        {"loss": loss, "trained against": norm, "w1": w[0], "w2": w[1], "b": b}
        for (loss, norm), (w, b) in models.items()
    ]
    data = pd.concat([pd.DataFrame({"x1": x[:, 0], "x2": x[:, 1], "y": y}), pd.DataFrame(lines)], ignore_index=True)
    caption = (
        "Decision lines of training on the points themselves (dashed) and on their worst cases (full), with the balls "
        "of the points nearest to the line; small dots are the worst cases for the full line."
    )
    return Drawing("linear", "Decision lines and balls", caption, figure, data)


def _panel(axes: Axes, x: np.ndarray, y: np.ndarray, eps: float, norm: Ball, plain: Any, robust: Any) -> None:
    for label, place, marker in ((1.0, 0, "o"), (-1.0, 1, "s")):
        mine = x[y == label]
        axes.scatter(
            mine[:, 0], mine[:, 1], s=18, color=COLORS[place], marker=marker, label=f"class {label:+.0f}", zorder=3
        )
    for (w, b), dash, name in ((plain, "--", "trained on points"), (robust, "-", "trained on worst cases")):
        across = np.array([-1.0, 2.0])
        if abs(w[1]) > abs(w[0]):
            axes.plot(across, -(w[0] * across + b) / w[1], "k", linestyle=dash, linewidth=1.3, label=name)
        else:
            axes.plot(-(w[1] * across + b) / w[0], across, "k", linestyle=dash, linewidth=1.3, label=name)
    near = np.argsort(np.abs(margins(robust[0], robust[1], x, y)))[:14]
    moved = worst_points(robust[0], x[near], y[near], norm, eps)
    for point, label in zip(x[near], y[near], strict=True):
        color = COLORS[0] if label > 0 else COLORS[1]
        if norm == "l2":
            axes.add_patch(Circle(tuple(point), eps, fill=False, color=color, alpha=0.5))
        else:
            axes.add_patch(Rectangle(tuple(point - eps), 2 * eps, 2 * eps, fill=False, color=color, alpha=0.5))
    axes.scatter(
        moved[:, 0], moved[:, 1], s=7, color=[COLORS[0] if label > 0 else COLORS[1] for label in y[near]], zorder=3
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
