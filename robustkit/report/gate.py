"""A gate for CI: `--fail-under 'pgd>=0.45'`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pandas as pd

from robustkit.params import UsageError, suggest

_FORM = re.compile(r"\s*(?:(?P<row>[^/<>=]+)/)?(?P<column>[^<>=]+?)\s*>=\s*(?P<bound>[^<>=]+?)\s*")


@dataclass(frozen=True)
class Gate:
    """A lower bound on an accuracy: in one row, or in every row but the undefended baseline's.

    Args:
        row: a defense as the table calls it, or None.
        column: "clean", "worst" or an attack as the table calls it.
        bound: between 0 and 1.
    """

    row: str | None
    column: str
    bound: float

    def __str__(self) -> str:
        return f"{self.row + '/' if self.row else ''}{self.column}>={self.bound:g}"


def parse_gate(text: str) -> Gate:
    """Read "pgd>=0.45", "pgd_at/worst>=0.4" or "clean>=90%".

    A colon belongs to a name ("pgd:steps=50>=0.4" reads its last ">=" as the bound).

    Raises:
        UsageError: another form, or a bound that is no share.
    """
    names, found, bound_text = text.rpartition(">=")
    row, slash, column = names.strip().rpartition("/")
    if not found or not column.strip() or (slash and not row.strip()):
        raise UsageError(f"--fail-under {text!r} must look like 'pgd>=0.45' or 'pgd_at/worst>=0.4'")
    try:
        bound = float(bound_text.strip().removesuffix("%"))
    except ValueError:
        raise UsageError(f"--fail-under {text!r}: {bound_text.strip()!r} is no number") from None
    if bound_text.strip().endswith("%"):
        bound /= 100
    if not (math.isfinite(bound) and 0 <= bound <= 1):
        raise UsageError(f"--fail-under {text!r}: the bound must be a share between 0 and 1 (or a percentage)")
    return Gate(row.strip() or None, column.strip(), bound)


def check_gates(gates: list[Gate], table: pd.DataFrame, columns: list[str], baseline: str) -> list[str]:
    """The complaints of gates that tripped, in words. A cell that failed trips its gate.

    Args:
        gates: bounds.
        table: a comparison.
        columns: its columns of accuracies under attack.
        baseline: the row that a gate without a row passes over, where there are others.

    Raises:
        UsageError: a gate names a row or column that the table doesn't have.
    """
    complaints = []
    known = ["clean", *columns]
    for gate in gates:
        wanted = [name for name in known if name == gate.column or name.startswith(f"{gate.column} @ ")]
        if gate.column == "worst":
            wanted = [name for name in known if name.startswith("worst case")]
        if not wanted:
            raise UsageError(f"--fail-under {gate}: no column {gate.column!r}{suggest(gate.column, [*known, 'worst'])}")
        rows = table if gate.row is None else table[table["defense"] == gate.row]
        if gate.row is None and (table["defense"] != baseline).any():
            rows = table[table["defense"] != baseline]
        if rows.empty:
            names = sorted(set(table["defense"]))
            raise UsageError(f"--fail-under {gate}: no defense {gate.row!r}{suggest(str(gate.row), names)}")
        for _, row in rows.iterrows():
            for name in wanted:
                value = row[name]
                if not value >= gate.bound:  # NaN trips as well
                    got = "failed" if math.isnan(value) else f"is {value:.4f}"
                    complaints.append(f"{row['defense']} (seed {row['seed']}): {name} {got}, below {gate.bound:g}")
    return complaints
