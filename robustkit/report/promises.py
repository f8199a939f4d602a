"""Certified accuracy over the radius as the page of a bench draws it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from robustkit.engine.statistics import wilson
from robustkit.report.drawing import Drawing
from robustkit.report.footer import guarantees
from robustkit.report.panels import curve, legend, panels
from robustkit.tables import Record, Samples, radii_of

_POINTS = 60


def promises(records: Sequence[Record], samples: Samples) -> pd.DataFrame:
    """One row a model, certifier and radius: share predicted as labelled with at least that radius.

    Columns: defense, seed, certifier, norm, radius (input units), accuracy, low, high (95 %, Wilson). Radii run from 0
    to the largest finite one that was certified, and to the largest ε of the bench at least.
    """
    cells = [record for record in records if record["kind"] == "certify" and record["status"] == "ok"]
    known = [samples(record["key"]) for record in cells]
    right = [columns["prediction"] == columns["label"] for columns in known]
    reached = [columns["radius"][mine] for columns, mine in zip(known, right, strict=True)]
    rows = []
    if cells:
        finite = np.concatenate(reached)
        finite = finite[np.isfinite(finite)]
        end = max([*radii_of(records), float(finite.max()) if len(finite) else 0.0]) or 1.0
        for record, mine, radius in zip(cells, right, reached, strict=True):
            for point in np.linspace(0, end, _POINTS):
                hits = int((radius >= point).sum())
                low, high = wilson(hits, len(mine))
                rows.append(
                    {
                        "defense": record["subject"]["label"],
                        "seed": record["subject"]["seed"],
                        "certifier": record["component"]["label"],
                        "norm": record["threat"]["norm"],
                        "radius": float(point),
                        "accuracy": hits / len(mine),
                        "low": low,
                        "high": high,
                    }
                )
    columns = ["defense", "seed", "certifier", "norm", "radius", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def certified_accuracy(records: Sequence[Record], table: pd.DataFrame, samples: Samples) -> Drawing | None:
    """A panel a certifier (and so a noise level), a line a model."""
    data = promises(records, samples)
    if data.empty:
        return None
    certifiers = list(dict.fromkeys(data["certifier"]))
    models = list(dict.fromkeys(table["defense"]))
    figure, grid = panels(certifiers, f"radius ({data['norm'].iloc[0]}, images in [0, 1])", "certified accuracy")
    for certifier, axes in zip(certifiers, grid, strict=True):
        for place, model in enumerate(models):
            curve(axes, data[(data["certifier"] == certifier) & (data["defense"] == model)], "radius", place)
        for eps in radii_of(records):
            axes.axvline(eps, color="#666666", linewidth=0.8, linestyle=":")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    legend(figure, models)
    said = " ".join(f"{label}: {guarantee}" for label, guarantee in guarantees(records).items())
    caption = (
        "Share of images predicted as labelled with a certified radius of at least so much, with 95 % intervals. "
        f"Dotted: the ε of the bench. {said}"
    )
    return Drawing("certified", "Certified accuracy", caption, figure, data)
