"""How numbers of a comparison are written, the same in every kind of file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from robustkit.tables import Record, attack_columns, certified_columns, over_seeds

MISSING = "–"
FAILED = "error"


def percent(value: float) -> str:
    """A share with one decimal: 0.8695 → "87.0"."""
    return f"{100 * value:.1f}"


def interval(value: float, low: float, high: float) -> str:
    """A share with its interval: "86.0 [84.4, 87.5]"."""
    return f"{percent(value)} [{percent(low)}, {percent(high)}]"


def number(value: float, digits: int = 1) -> str:
    return MISSING if _missing(value) else f"{value:.{digits}f}"


def readable(table: pd.DataFrame, records: Sequence[Record]) -> pd.DataFrame:
    """The comparison as texts, one column a quantity, for people.

    Accuracies are in percent with their 95 % intervals; with several seeds, rows of mean ± standard deviation
    follow. A cell that failed says "error", what doesn't apply is a dash.
    """
    accuracies = ["clean", *attack_columns(records), *certified_columns(records)]
    rows = [_row(row, accuracies) for _, row in table.iterrows()]
    _mark(rows, table, records)
    if table["seed"].nunique() > 1:
        rows += _over_seeds(table, accuracies)
    else:
        for row in rows:
            del row["seed"]
    return pd.DataFrame(rows)


def _row(row: pd.Series, accuracies: Sequence[str]) -> dict[str, str]:
    cells = {"defense": str(row["defense"]), "seed": str(row["seed"])}
    for name in accuracies:
        if _missing(row.get(name)):
            whole = name == "clean" or name.startswith("worst case")
            failed = row["status"] != "ok" if whole else row.get(f"{name} status") == "error"
            cells[name] = FAILED if failed else MISSING
        else:
            cells[name] = interval(row[name], row[f"{name} low"], row[f"{name} high"])
    cells["flags"] = str(row.get("flags") or MISSING).replace(", ", ",\n")
    cells["ASR"] = MISSING if _missing(row.get("success rate")) else percent(row["success rate"])
    cells |= {
        "passes": number(row["passes"], 0),
        "attack s": number(row["seconds"]),
        "training s": number(row["training seconds"]),
        "violations": str(int(row["violations"])),
        "status": str(row["status"]),
    }
    return cells


def _mark(rows: Sequence[dict[str, str]], table: pd.DataFrame, records: Sequence[Record]) -> None:
    """Set beside each number of a column that is not complete how much of it there is: "44.0 [...] (600/1200)"."""
    place = {(row["defense"], row["seed"]): number for number, (_, row) in enumerate(table.iterrows())}
    for record in records:
        covered = record.get("coverage", {})
        if covered.get("open"):
            row = rows[place[record["subject"]["label"], record["subject"]["seed"]]]
            row[record["component"]["label"]] += f" ({covered['attacked']}/{covered['attacked'] + covered['open']})"


def _over_seeds(table: pd.DataFrame, accuracies: Sequence[str]) -> list[dict[str, str]]:
    rows = []
    for _, row in over_seeds(table).iterrows():
        cells = {"defense": str(row["defense"]), "seed": f"mean ± sd of {row['seeds']}"}
        for name in accuracies:
            shown = f"{percent(row[name])} ± {percent(row[f'± {name}'])}" if not _missing(row[name]) else FAILED
            cells[name] = shown
        cells["flags"] = MISSING
        cells["ASR"] = MISSING if _missing(row["success rate"]) else percent(row["success rate"])
        cells |= {
            "passes": number(row["passes"], 0),
            "attack s": number(row["seconds"]),
            "training s": number(row["training seconds"]),
            "violations": number(row["violations"], 0),
            "status": str(row["status"]),
        }
        rows.append(cells)
    return rows


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
