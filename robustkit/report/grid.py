"""Adversarial images beside their originals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

_MOST = 10
_FELL, _STOOD = "#b2182b", "#1b7837"


def picture_grid(
    x: Tensor, x_adv: Tensor, labels: Tensor, before: Tensor, after: Tensor, classes: Sequence[str], path: Path
) -> None:
    """Draw up to ten samples: original, perturbation (magnified, grey is 0), adversarial, with predictions.

    Args:
        x, x_adv: (N, C, H, W) in [0, 1].
        labels, before, after: (N,) true class, prediction on x and on x_adv.
        classes: names.
        path: of the picture, by suffix .png, .pdf or .svg.
    """
    count = min(len(x), _MOST)
    delta = (x_adv - x)[:count]
    largest = float(delta.abs().max()) or 1.0
    figure = Figure(figsize=(1.5 * count + 1.1, 5.2), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which keeps figures and a backend for the whole process
    axes = figure.subplots(3, count, squeeze=False)
    for i in range(count):
        for row, picture in enumerate((x[i], delta[i] / (2 * largest) + 0.5, x_adv[i])):
            array = np.clip(picture.detach().cpu().permute(1, 2, 0).numpy(), 0, 1)  # (H, W, C)
            axes[row][i].imshow(array.squeeze(-1) if array.shape[2] == 1 else array, cmap="gray", vmin=0, vmax=1)
            axes[row][i].set_xticks([])
            axes[row][i].set_yticks([])
        axes[0][i].set_title(_name(classes, labels[i]), fontsize=9)
        axes[0][i].set_xlabel(f"→ {_name(classes, before[i])}", fontsize=9)
        color = _STOOD if int(after[i]) == int(labels[i]) else _FELL
        axes[2][i].set_xlabel(f"→ {_name(classes, after[i])}", fontsize=9, color=color)
    for row, words in enumerate(("original", f"perturbation\n× {0.5 / largest:.3g} around grey", "adversarial")):
        axes[row][0].set_ylabel(words, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _name(classes: Sequence[str], label: Tensor) -> str:
    return classes[int(label)].replace("$", r"\$")
