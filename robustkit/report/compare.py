"""Two runs against each other, paired sample by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustkit.engine.statistics import mcnemar, paired_difference
from robustkit.params import UsageError
from robustkit.tables import Quantity, Record, Samples, outcomes, radii_of

_Model = tuple[str, int]


def compare(
    first: Sequence[Record], first_samples: Samples, second: Sequence[Record], second_samples: Samples
) -> pd.DataFrame:
    """One row a quantity that both runs have: accuracies, their difference with its interval, McNemar's p.

    Models are matched by defense and seed; where each run has one model left that the other has not, these two
    are compared. Attacks are matched by label, norm and eps; the worst case is over each run's own attacks.
    Differences are second − first.

    Raises:
        UsageError: other test samples, another norm, or nothing in common.
    """
    _check_same_samples(first[0]["dataset"], second[0]["dataset"])
    norms = [records[0]["threat"]["norm"] for records in (first, second)]
    if norms[0] != norms[1]:
        raise UsageError(f"the runs are under different threat models: {norms[0]} and {norms[1]}")
    ours, theirs = _by_model(first, first_samples), _by_model(second, second_samples)
    rows = []
    for one, other in _pairs(list(ours), list(theirs)):
        for quantity, a in ours[one].items():
            b = theirs[other].get(quantity)
            if b is not None:
                rows.append(_row(one, other, quantity, a, b))
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


def _check_same_samples(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    if (first["fingerprint"], first["n"]) != (second["fingerprint"], second["n"]):
        words = " and ".join(f"{data['name']}, n = {data['n']}" for data in (first, second))
        raise UsageError(
            f"the runs judged different samples ({words}); a paired comparison needs the same data and --limit"
        )


def _by_model(records: Sequence[Record], samples: Samples) -> dict[_Model, dict[Quantity, np.ndarray]]:
    radii = radii_of(records)
    models = dict.fromkeys((r["subject"]["label"], r["subject"]["seed"]) for r in records)
    return {
        model: outcomes([r for r in records if (r["subject"]["label"], r["subject"]["seed"]) == model], radii, samples)
        for model in models
    }


def _pairs(ours: list[_Model], theirs: list[_Model]) -> list[tuple[_Model, _Model]]:
    """The same models, and the one that each run has alone."""
    pairs = [(model, model) for model in ours if model in theirs]
    mine = [model for model in ours if model not in theirs]
    others = [model for model in theirs if model not in ours]
    if len(mine) == len(others) == 1:
        pairs.append((mine[0], others[0]))
    return pairs


def _row(one: _Model, other: _Model, quantity: Quantity, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    difference, low, high = paired_difference(only_first, only_second, len(a))
    name, eps = quantity
    return {
        "defense": one[0] if one[0] == other[0] else f"{one[0]} → {other[0]}",
        "seed": str(one[1]) if one[1] == other[1] else f"{one[1]} → {other[1]}",
        "attack": name,
        "eps": np.nan if eps is None else eps,
        "first": float(a.mean()),
        "second": float(b.mean()),
        "difference": difference,
        "low": low,
        "high": high,
        "only first": only_first,
        "only second": only_second,
        "p (McNemar)": mcnemar(only_first, only_second),
    }
