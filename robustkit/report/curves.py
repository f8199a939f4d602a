"""Robust accuracy against ε as it is drawn: attacks that minimise the distance, and all attacks together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustkit.curves import ENVELOPE, curve
from robustkit.tables import Record, Samples, radii_of

_POINTS = 60
_COLUMNS = ["defense", "seed", "attack", "norm", "eps", "accuracy", "low", "high"]


def curves(records: Sequence[Record], samples: Samples) -> pd.DataFrame:
    """One row a model, minimum-norm attack (and the envelope of all attacks) and ε; empty without such an attack.

    Columns: defense, seed, attack, norm, eps, accuracy, low, high (95 %, Wilson). ε runs from 0 to beyond the
    largest ε of the bench, and on to where most inputs have fallen, though no farther than three times as far.
    In a cascade single attacks saw too few inputs to be drawn.
    """
    cells = [
        record
        for record in records
        if record["kind"] == "attack"
        and record["status"] == "ok"
        and record["component"]["goal"] == "minimal"
        and not record["cascade"]
    ]
    if not cells:
        return pd.DataFrame(columns=_COLUMNS)
    grid = np.linspace(0, _end(cells, samples, max(radii_of(records))), _POINTS)
    found = curve(records, samples, grid.tolist())
    several = len({record["component"]["label"] for record in records if record["kind"] == "attack"}) > 1
    drawn = {record["component"]["label"] for record in cells} | ({ENVELOPE} if several else set())
    lines = found[found["attack"].isin(drawn) & found["eps"].isin(grid)]
    return lines.rename(columns={"robust": "accuracy"})[_COLUMNS].reset_index(drop=True)


def _end(cells: Sequence[Record], samples: Samples, largest: float) -> float:
    """Where the ε axis ends."""
    found = []
    for record in cells:
        columns = samples(record["key"])
        fell = columns["attacked"] & (columns["adv_pred"] != columns["label"])
        found.append(columns[f"dist_{record['threat']['norm']}"][fell])
    distances = np.concatenate(found)
    usual = float(np.quantile(distances, 0.95)) if len(distances) else 0.0
    end = min(max(1.25 * largest, usual), 3 * largest) if largest > 0 else usual
    if cells[0]["threat"]["norm"] == "linf":
        end = min(end, 1.0)
    return end or 1.0
