"""Robust accuracy against ε, from the distances that minimum-norm attacks found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustkit.engine.statistics import wilson
from robustkit.tables import LEVEL, Record, Samples, radii_of, robust

_POINTS = 60


def curves(records: Sequence[Record], samples: Samples) -> pd.DataFrame:
    """One row a model, minimum-norm attack and ε; empty without such an attack.

    Columns: defense, seed, attack, norm, eps, accuracy, low, high (95 %, Wilson). ε runs from 0 to beyond the
    largest ε of the bench, and on to where most inputs have fallen, though no farther than three times as far.
    In a cascade an attack counts only if it saw every input that was right.
    """
    cells = [
        record
        for record in records
        if record["kind"] == "attack"
        and record["status"] == "ok"
        and record["component"]["goal"] == "minimal"
        and not record.get("after")
    ]
    if not cells:
        return pd.DataFrame(columns=["defense", "seed", "attack", "norm", "eps", "accuracy", "low", "high"])
    grid = np.linspace(0, _end(cells, samples, max(radii_of(records))), _POINTS)
    rows = []
    for record in cells:
        columns = samples(record["key"])
        for eps in grid:
            kept = robust(record, columns, float(eps))
            low, high = wilson(int(kept.sum()), len(kept), LEVEL)
            rows.append(
                {
                    "defense": record["subject"]["label"],
                    "seed": record["subject"]["seed"],
                    "attack": record["component"]["label"],
                    "norm": record["threat"]["norm"],
                    "eps": float(eps),
                    "accuracy": float(kept.mean()),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


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
