"""Certified accuracy over the radius, several models and noise levels in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curve:
    """One line: of a model (its dashes) and a certifier (its color); rows as `robustkit.certify` has them."""

    model: str
    certifier: str
    rows: Mapping[str, np.ndarray]

    def steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Radii, rising from 0, and the share certified at each and up to the next; it ends at 0."""
        right = self.rows["prediction"] == self.rows["label"]
        radius = self.rows["radius"][right]
        reached = np.unique(radius[np.isfinite(radius) & (radius > 0)])
        radii = np.concatenate([[0.0], reached])
        share = np.array([(radius >= r).sum() for r in radii]) / max(len(right), 1)
        return np.append(radii, radii[-1]), np.append(share, (~np.isfinite(radius)).sum() / max(len(right), 1))


def certified_curves(curves: Sequence[Curve], path: Path) -> None:
    """Draw certified accuracy (percent) over radius, as .svg, .png or .pdf by the suffix of `path`."""
    models = list(dict.fromkeys(curve.model for curve in curves))
    certifiers = list(dict.fromkeys(curve.certifier for curve in curves))
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which keeps figures and a backend for the whole process
    axes = figure.subplots()
    for curve in curves:
        radii, share = curve.steps()
        axes.step(
            radii,
            100 * share,
            where="pre",
            color=_COLORS[certifiers.index(curve.certifier) % len(_COLORS)],
            linestyle=_DASHES[models.index(curve.model) % len(_DASHES)],
            label=f"{curve.model}, {curve.certifier}".replace("$", r"\$"),
        )
    axes.set_xlabel("radius (input units)")
    axes.set_ylabel("certified accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "robustkit"}):  # the same curves give the same file
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
