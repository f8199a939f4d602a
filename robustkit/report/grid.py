"""Adversarial images beside their originals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from torch import Tensor

_MOST = 10


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
    figure, axes = plt.subplots(3, count, figsize=(1.5 * count + 1.1, 5.2), squeeze=False, layout="constrained")
    for i in range(count):
        pictures = (x[i], delta[i] / (2 * largest) + 0.5, x_adv[i])
        for row, picture in enumerate(pictures):
            axis = axes[row][i]
            array = np.clip(picture.cpu().permute(1, 2, 0).numpy(), 0, 1)
            axis.imshow(array.squeeze(-1) if array.shape[2] == 1 else array, cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0][i].set_title(f"{_name(classes, labels[i])}", fontsize=9)
        axes[0][i].set_xlabel(f"→ {_name(classes, before[i])}", fontsize=9)
        fooled = int(after[i]) != int(labels[i])
        axes[2][i].set_xlabel(f"→ {_name(classes, after[i])}", fontsize=9, color="#b2182b" if fooled else "#1b7837")
    for row, words in enumerate(("original", f"perturbation\n× {0.5 / largest:.3g} around grey", "adversarial")):
        axes[row][0].set_ylabel(words, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _name(classes: Sequence[str], label: Tensor) -> str:
    return classes[int(label)].replace("$", r"\$")
