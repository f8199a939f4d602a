"""Two runs against each other, paired sample by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustkit.engine.statistics import mcnemar, paired_difference
from robustkit.params import UsageError
from robustkit.tables import Record, Samples, robust


def compare(
    first: Sequence[Record], first_samples: Samples, second: Sequence[Record], second_samples: Samples
) -> pd.DataFrame:
    """One row a cell that both runs have: accuracies, their difference with its interval, McNemar's p.

    Cells are matched by defense, seed and attack; where a run judges one model only, that model is compared
    whatever it is called. Differences are second − first.

    Raises:
        UsageError: other test samples, or no cell in common.
    """
    if first[0]["dataset"] != second[0]["dataset"]:
        raise UsageError(
            f"the runs judged different samples ({_data(first[0])} and {_data(second[0])}); "
            "a paired comparison needs the same ones"
        )
    other = {_cell(record, second): record for record in second if record["status"] == "ok"}
    rows = []
    for record in first:
        match = other.get(_cell(record, first))
        if record["status"] != "ok" or match is None:
            continue
        a, b = _right(record, first_samples), _right(match, second_samples)
        only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
        difference, low, high = paired_difference(only_first, only_second, len(a))
        component = record["component"]
        rows.append(
            {
                "defense": _both(record["subject"]["label"], match["subject"]["label"]),
                "seed": record["subject"]["seed"],
                "attack": component["label"] if component else "clean",
                "eps": record["threat"]["eps"] if component else np.nan,
                "first": float(a.mean()),
                "second": float(b.mean()),
                "difference": difference,
                "low": low,
                "high": high,
                "only first": only_first,
                "only second": only_second,
                "p (McNemar)": mcnemar(only_first, only_second),
            }
        )
    if not rows:
        raise UsageError("the runs have no good cell in common; compare runs with the same attacks at the same eps")
    return pd.DataFrame(rows)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, in words."""
    found = []
    for key in ("processor", "device", "search_precision", "python"):
        if first.get(key) != second.get(key):
            found.append(f"{key}: {first.get(key)} and {second.get(key)}")
    versions = (first.get("versions", {}), second.get("versions", {}))
    for name in sorted(set(versions[0]) | set(versions[1])):
        if versions[0].get(name) != versions[1].get(name):
            found.append(f"{name}: {versions[0].get(name, 'absent')} and {versions[1].get(name, 'absent')}")
    return found


def _cell(record: Record, run: Sequence[Record]) -> tuple[object, ...]:
    component = record["component"]
    attack = component["label"] if component else "clean"
    labels = {(other["subject"]["label"], other["subject"]["seed"]) for other in run}
    subject = None if len(labels) == 1 else (record["subject"]["label"], record["subject"]["seed"])
    threat = (record["threat"]["norm"], record["threat"]["eps"]) if component else None
    return subject, attack, threat


def _right(record: Record, samples: Samples) -> np.ndarray:
    columns = samples(record["key"])
    if record["component"] is None:
        right: np.ndarray = columns["clean_pred"] == columns["label"]
        return right
    return robust(record, columns, record["threat"]["eps"])


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first} → {second}"


def _data(record: Record) -> str:
    return f"{record['dataset']['name']}, n = {record['dataset']['n']}"
