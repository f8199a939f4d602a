"""Records → tidy DataFrame → comparison tables. Pure functions; numbers in, numbers out.

A share without a value is NaN: an attack that failed has no robust accuracy, and never counts as robust.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustkit.contracts import Threat
from robustkit.engine.certify import certified
from robustkit.engine.statistics import wilson
from robustkit.params import as_text

Record = dict[str, Any]
Samples = Callable[[str], Mapping[str, np.ndarray]]
"""From a cell's key to its per-sample columns."""

Quantity = tuple[str, float | None]

LEVEL = 0.95
WORST = "worst case"


def tidy(records: Sequence[Record]) -> pd.DataFrame:
    """One row a cell: what was measured on what, every metric a column."""
    rows = []
    for record in records:
        component = record["component"] or {}
        rows.append(
            {
                "defense": record["subject"]["label"],
                "seed": record["subject"]["seed"],
                "model": record["subject"]["model"],
                "kind": record["kind"],
                "attack": component.get("label"),
                "provider": component.get("distribution"),
                "version": component.get("version"),
                "norm": record["threat"]["norm"],
                "eps": record["threat"]["eps"],
                "dataset": record["dataset"]["name"],
                "n": record["dataset"]["n"],
                "status": record["status"],
                "error": record["error"],
                "precision": record["precision"],
                "seconds": record["seconds"],
                "training_seconds": record["subject"]["training_seconds"],
                **record["metrics"],
            }
        )
    return pd.DataFrame(rows)


def robust(record: Record, columns: Mapping[str, np.ndarray], eps: float) -> np.ndarray:
    """(N,) bool: right on the clean input, and not brought down by this attack at `eps`.

    An attack with a budget answers for its own eps alone; one that minimises the distance for every eps.
    """
    right: np.ndarray = columns["clean_pred"] == columns["label"]
    fell = columns["success"]
    if record["component"]["goal"] == "minimal":
        threat = Threat(record["threat"]["norm"], eps)
        fooled = columns["attacked"] & (columns["adv_pred"] != columns["label"])
        fell = fooled & (columns[f"dist_{threat.norm}"] <= threat.allowance)
    kept: np.ndarray = right & ~fell
    return kept


def comparison(records: Sequence[Record], samples: Samples) -> pd.DataFrame:
    """One row a model: accuracies with their 95 % intervals (Wilson 1927), costs, violations, status.

    Columns: defense, model, seed; clean, one a pair of attack and eps, and the worst case over all attacks at
    each eps, sample by sample, each with "low" and "high"; flags, the names of what speaks against these; success
    rate, the share of what is right on clean inputs that some attack brings down at the largest eps; passes (forward
    and backward a sample and attack, summed), seconds, training seconds, violations, status. What has no number is
    NaN: a cell that failed or was not reached. In a cascade each column counts what the attacks up to it brought down.
    On a budget so it does, and "attacked" and "open" count the samples that an attack was tried on, and those that
    stand and it was not tried on; the worst case counts these as standing.
    """
    radii = radii_of(records)
    rows = []
    for label, seed in dict.fromkeys((r["subject"]["label"], r["subject"]["seed"]) for r in records):
        mine = [r for r in records if (r["subject"]["label"], r["subject"]["seed"]) == (label, seed)]
        model = mine[0]["subject"]["model"]
        rows.append({"defense": label, "model": model, "seed": seed, **_row(mine, radii, samples)})
    return pd.DataFrame(rows)


def attack_columns(records: Sequence[Record]) -> list[str]:
    """The names of the columns of accuracies under attack, in the order of the bench, worst cases last."""
    labels = list(dict.fromkeys(r["component"]["label"] for r in records if r["kind"] == "attack"))
    return column_names(labels, radii_of(records))


def certified_columns(records: Sequence[Record]) -> list[str]:
    """The names of the columns of certified accuracies, in the order of the bench."""
    labels = dict.fromkeys(r["component"]["label"] for r in records if r["kind"] == "certify")
    radii = radii_of(records)
    return [_name(f"certified {label}", eps, radii) for label in labels for eps in radii]


def column_names(labels: Sequence[str], radii: Sequence[float]) -> list[str]:
    """The columns of accuracies that attacks of these labels make at these eps."""
    names = [_name(label, eps, radii) for label in labels for eps in radii]
    return names + ([_name(WORST, eps, radii) for eps in radii] if labels else [])


def radii_of(records: Sequence[Record]) -> list[float]:
    """Every eps that attacks are scored at; one without a budget lists them under "radii"."""
    threats = [record["threat"] for record in records if record["kind"] != "clean"]
    return sorted({eps for threat in threats for eps in threat.get("radii", [threat["eps"]])})


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds, a row a defense; columns of numbers get a "± " twin."""
    texts = ("defense", "model", "seed", "flags", "status")
    numbers = [name for name in table.columns if name not in texts and not name.endswith(" status")]
    rows = []
    for label, group in table.groupby("defense", sort=False):
        row: dict[str, Any] = {"defense": label, "seeds": len(group)}
        for name in numbers:
            values = pd.to_numeric(group[name], errors="coerce").astype(float)
            row[name] = float(values.mean()) if values.notna().all() else np.nan
            row[f"± {name}"] = float(values.std(ddof=1)) if values.notna().all() and len(values) > 1 else np.nan
        row["status"] = "ok" if (group["status"] == "ok").all() else "error"
        rows.append(row)
    return pd.DataFrame(rows)


def outcomes(mine: Sequence[Record], radii: Sequence[float], samples: Samples) -> dict[Quantity, np.ndarray]:
    """Of one model, which samples are right: clean, under each attack, and under all of them at once.

    Args:
        mine: the records of one model, in the order of the bench.
        radii: every eps of the bench.
        samples: per-sample columns by cell key.

    Returns:
        (N,) bool by "clean", label of an attack or "worst case", and eps (None for clean). Cells that failed or
        were not reached are missing; without one good attack there is no worst case.
    """
    found: dict[Quantity, np.ndarray] = {}
    worst: dict[Quantity, np.ndarray] = {}
    for record in mine:
        if record["status"] != "ok":
            continue
        columns = samples(record["key"])
        if record["kind"] == "clean":
            found["clean", None] = columns["clean_pred"] == columns["label"]
            continue
        if record["kind"] == "certify":
            continue
        for eps in _scored(record, radii):
            kept = robust(record, columns, eps)
            so_far = kept & worst.get((WORST, eps), kept)
            worst[WORST, eps] = so_far
            found[record["component"]["label"], eps] = so_far if record["cascade"] else kept
    return found | worst


def _row(mine: Sequence[Record], radii: Sequence[float], samples: Samples) -> dict[str, Any]:
    right = outcomes(mine, radii, samples)
    row = _share("clean", right.get(("clean", None)))
    attacks = [record for record in mine if record["kind"] == "attack"]
    for record in attacks:
        label = record["component"]["label"]
        for eps in _scored(record, radii):
            name = _name(label, eps, radii)
            row |= {**_share(name, right.get((label, eps))), f"{name} status": record["status"]}
            for what in ("attacked", "open") if "coverage" in record else ():
                row[f"{name} {what}"] = record["coverage"][what]
    if attacks:
        for eps in radii:
            row |= _share(_name(WORST, eps, radii), right.get((WORST, eps)))
    for record in (record for record in mine if record["kind"] == "certify"):
        columns = samples(record["key"]) if record["status"] == "ok" else None
        for eps in radii:
            name = _name(f"certified {record['component']['label']}", eps, radii)
            row |= {
                **_share(name, None if columns is None else certified(columns, eps)),
                f"{name} status": record["status"],
            }
    row["flags"] = ", ".join(dict.fromkeys(flag["name"] for r in mine for flag in r.get("flags", [])))
    row["success rate"] = np.nan
    if radii and ("clean", None) in right and (WORST, radii[-1]) in right:
        before, after = right["clean", None], right[WORST, radii[-1]]
        row["success rate"] = float((before & ~after).sum() / before.sum()) if before.any() else np.nan
    good = [record for record in attacks if record["status"] == "ok"]
    row["passes"] = sum(record["metrics"]["forwards"] + record["metrics"]["backwards"] for record in good)
    row["seconds"] = sum(record["seconds"] for record in mine if record["seconds"] is not None)
    training = [r["subject"]["training_seconds"] for r in mine if r["subject"]["training_seconds"] is not None]
    row["training seconds"] = training[0] if training else np.nan
    row["violations"] = sum(record["metrics"]["violations"] for record in good)
    failed = [record for record in mine if record["status"] != "ok"]
    row["status"] = "ok" if not failed else f"{len(failed)} of {len(mine)} failed"
    return row


def _scored(record: Record, radii: Sequence[float]) -> Sequence[float]:
    return radii if record["component"]["goal"] == "minimal" else [record["threat"]["eps"]]


def _share(name: str, hits: np.ndarray | None) -> dict[str, Any]:
    if hits is None:
        return {name: np.nan, f"{name} low": np.nan, f"{name} high": np.nan}
    low, high = wilson(int(hits.sum()), len(hits), LEVEL)
    return {name: float(hits.mean()), f"{name} low": low, f"{name} high": high}


def _name(label: str, eps: float, radii: Sequence[float]) -> str:
    return label if len(radii) == 1 else f"{label} @ {as_text(float(eps))}"
