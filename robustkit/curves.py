"""Robust accuracy against eps: curves of attacks that minimise the distance, points of the others, their envelope.
And robust accuracy against queries, of attacks that count them.

Pure functions of records and samples, as in `robustkit.tables`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustkit.contracts import Threat
from robustkit.engine.statistics import wilson
from robustkit.tables import LEVEL, Record, Samples, robust

ENVELOPE = "envelope"
"""What stands under all attacks together."""

Subject = tuple[str, int]


def curve(records: Sequence[Record], samples: Samples, radii: Sequence[float] | None = None) -> pd.DataFrame:
    """Robust accuracy against eps, for each model and attack, and under all attacks together.

    An attack that minimises the distance gives a value at every eps, one with a budget at its own. The envelope
    at eps counts a sample as fallen where one without a budget found a point within eps, or one with a budget of at
    most eps brought it down, for a smaller ball lies in a larger one. It never rises with eps, and is at most the
    value of any attack at that eps.

    Args:
        records: of a bench, one norm; cells that failed are left out, and so are all of a cascade but its envelope.
        samples: per-sample columns by cell key.
        radii: at which curves are read. None: 0, every distance at which a sample falls, and every budget.

    Returns:
        Columns defense, seed, attack ("envelope" for all), norm, eps, robust, low, high (95 %, Wilson 1927), n; in
        the order of the bench, eps rising.

    Raises:
        ValueError: an eps that is negative or not finite.
    """
    rows: list[dict[str, Any]] = []
    for subject in dict.fromkeys(_subject(record) for record in records):
        mine = [r for r in records if _subject(r) == subject and r["kind"] == "attack" and r["status"] == "ok"]
        if not mine:
            continue
        norm = mine[0]["threat"]["norm"]
        falls = {record["key"]: fall_radius(record, samples(record["key"])) for record in mine}
        lowest = np.minimum.reduce(list(falls.values()))
        given = sorted(set(radii)) if radii is not None else _every(falls, mine)
        for record in mine:
            minimal = record["component"]["goal"] == "minimal"
            if not record["cascade"]:
                own = given if minimal else [record["threat"]["eps"]]
                rows += _rows(subject, record["component"]["label"], norm, own, falls[record["key"]])
        rows += _rows(subject, ENVELOPE, norm, given, lowest)
    return pd.DataFrame(rows)


def median_distances(records: Sequence[Record], samples: Samples) -> pd.DataFrame:
    """The median distance to the nearest adversarial point that each search found, over all samples that were right.

    A sample for which none was found counts as infinitely far, so that the median is infinite where that is half of
    them. The envelope takes the nearest point of all these attacks, sample by sample.

    Returns:
        Columns defense, seed, attack, norm, median, found (share of the samples that were right), n.
    """
    rows = []
    for subject in dict.fromkeys(_subject(record) for record in records):
        found: dict[str, np.ndarray] = {}
        norm = ""
        for record in records:
            good = record["kind"] == "attack" and record["status"] == "ok" and not record["cascade"]
            if good and _subject(record) == subject and record["component"]["goal"] == "minimal":
                columns, norm = samples(record["key"]), record["threat"]["norm"]
                right = columns["clean_pred"] == columns["label"]
                found[record["component"]["label"]] = fall_radius(record, columns)[right]
        if found:
            found[ENVELOPE] = np.minimum.reduce(list(found.values()))
        for label, distances in found.items():
            some = len(distances) > 0
            rows.append(
                {
                    "defense": subject[0],
                    "seed": subject[1],
                    "attack": label,
                    "norm": norm,
                    "median": float(np.median(distances)) if some else np.nan,
                    "found": float(np.isfinite(distances).mean()) if some else np.nan,
                    "n": len(distances),
                }
            )
    return pd.DataFrame(rows)


def query_curve(records: Sequence[Record], samples: Samples, counts: Sequence[int] | None = None) -> pd.DataFrame:
    """Robust accuracy after so many queries a sample, for each model and attack that counts them by sample.

    A sample falls at the query that brought it down at the eps of the record: the attack's own, or the largest of
    the bench where it minimises the distance. What the host did not confirm stands.

    Args:
        records: of a bench; cells that failed and cascades are left out.
        samples: per-sample columns by cell key.
        counts: at which curves are read. None: 0, every number at which a sample falls, and the most that one took.

    Returns:
        Columns defense, seed, attack, norm, eps, queries, robust, low, high (95 %, Wilson 1927), n; in the order of
        the bench, queries rising.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        if record["kind"] != "attack" or record["status"] != "ok" or record["cascade"]:
            continue
        columns, eps = samples(record["key"]), float(record["threat"]["eps"])
        if "queries" not in columns:
            continue
        stands = robust(record, columns, eps)
        right = columns["clean_pred"] == columns["label"]
        falls = np.where(right, np.where(stands, np.inf, columns["queries"]), 0.0)
        most = int(columns["queries"].max(initial=0))
        places = np.unique([0.0, *falls[np.isfinite(falls)], most]).tolist() if counts is None else sorted(set(counts))
        for queries in places:
            left = falls > queries
            low, high = wilson(int(left.sum()), len(left), LEVEL)
            rows.append(
                {
                    "defense": record["subject"]["label"],
                    "seed": record["subject"]["seed"],
                    "attack": record["component"]["label"],
                    "norm": record["threat"]["norm"],
                    "eps": eps,
                    "queries": int(queries),
                    "robust": float(left.mean()),
                    "low": low,
                    "high": high,
                    "n": len(left),
                }
            )
    return pd.DataFrame(rows)


def fall_radius(record: Record, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) the smallest eps at which this attack is known to bring each sample down: 0 where it is wrong on the clean
    input, infinite where nothing was found; for an attack with a budget that budget.
    """
    right = columns["clean_pred"] == columns["label"]
    if record["component"]["goal"] == "minimal":
        fooled = columns["attacked"] & (columns["adv_pred"] != columns["label"])
        radius = np.where(fooled, columns[f"dist_{record['threat']['norm']}"].astype(float), np.inf)
    else:
        radius = np.where(columns["success"], float(record["threat"]["eps"]), np.inf)
    return np.where(right, radius, 0.0)


def _rows(
    subject: Subject, label: str, norm: Any, radii: Sequence[float], falls: np.ndarray
) -> Iterator[dict[str, Any]]:
    for eps in radii:
        # at 0 a distance of 0 is a clean error; elsewhere the host's own allowance for rounding holds
        stands = falls > (Threat(norm, eps).allowance if eps else 0.0)
        low, high = wilson(int(stands.sum()), len(stands), LEVEL)
        yield {
            "defense": subject[0],
            "seed": subject[1],
            "attack": label,
            "norm": norm,
            "eps": float(eps),
            "robust": float(stands.mean()),
            "low": low,
            "high": high,
            "n": len(stands),
        }


def _every(falls: Mapping[str, np.ndarray], mine: Sequence[Record]) -> list[float]:
    """0, every finite radius at which something falls, and every budget."""
    places = {0.0, *(float(r["threat"]["eps"]) for r in mine if r["component"]["goal"] != "minimal")}
    for record in mine:
        if record["component"]["goal"] == "minimal":
            radius = falls[record["key"]]
            places.update(float(value) for value in np.unique(radius[np.isfinite(radius)]))
    limit = 1.0 if mine[0]["threat"]["norm"] == "linf" else np.inf
    return sorted(min(value, limit) for value in places)


def _subject(record: Record) -> Subject:
    return record["subject"]["label"], record["subject"]["seed"]
