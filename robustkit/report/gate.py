"""A gate for CI: `--fail-under 'pgd>=0.45'`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from robustkit.params import UsageError, suggest

_WORST = "worst case"


@dataclass(frozen=True)
class Gate:
    """A lower bound on an accuracy: of one defense, or of every model but the undefended baseline.

    Args:
        target: "clean", "worst" or an attack as the table calls it, with its parameters and eps or without; a
            defense and a slash may stand before it.
        bound: between 0 and 1.
    """

    target: str
    bound: float

    def __str__(self) -> str:
        return f"{self.target}>={self.bound:g}"


def parse_gate(text: str) -> Gate:
    """Read "pgd>=0.45", "pgd_at/worst>=0.4", "pgd:steps=50 @ 8/255>=40%".

    Raises:
        UsageError: another form, or a bound that is no share.
    """
    target, found, bound_text = text.rpartition(">=")
    bound_text = bound_text.strip()
    if not found or not target.strip().strip("/"):
        raise UsageError(f"--fail-under {text!r} must look like 'pgd>=0.45' or 'pgd_at/worst>=0.4'")
    try:
        bound = float(bound_text.removesuffix("%"))
    except ValueError:
        raise UsageError(f"--fail-under {text!r}: {bound_text!r} is no number") from None
    if bound_text.endswith("%"):
        bound /= 100
    if not (math.isfinite(bound) and 0 <= bound <= 1):
        raise UsageError(f"--fail-under {text!r}: the bound must be a share between 0 and 1, or a percentage")
    return Gate(target.strip(), bound)


def check_names(gates: Sequence[Gate], defenses: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse gates that name what a bench doesn't have; before it runs.

    Raises:
        UsageError: no such attack or defense, with close names.
    """
    for gate in gates:
        _resolve(gate, defenses, columns)


def check_gates(gates: Sequence[Gate], table: pd.DataFrame, columns: Sequence[str], baseline: str) -> list[str]:
    """The complaints of gates that tripped, in words. A cell that failed trips its gate.

    Args:
        gates: bounds; at several eps or seeds every one must hold.
        table: a comparison.
        columns: its columns of accuracies under attack.
        baseline: the model that a gate without a defense passes over, where there are others.

    Raises:
        UsageError: a gate names a row or column that the table doesn't have.
    """
    complaints = []
    for gate in gates:
        defense, wanted = _resolve(gate, list(table["defense"]), columns)
        if defense is not None:
            rows = table[table["defense"] == defense]
        else:
            rows = table[table["defense"] != baseline] if (table["defense"] != baseline).any() else table
        for row in rows.to_dict("records"):
            for name in wanted:
                value = float(row.get(name, math.nan))  # none where a budget ended before it
                if not value >= gate.bound:  # NaN trips as well
                    got = "has no value" if math.isnan(value) else f"is {value:.4f}"
                    complaints.append(f"{row['defense']} (seed {row['seed']}): {name} {got}, not {gate.bound:g}")
    return complaints


def _resolve(gate: Gate, defenses: Sequence[str], columns: Sequence[str]) -> tuple[str | None, list[str]]:
    """Defense (None: all) and columns; both names may hold slashes, so every way to split is tried."""
    names = _matching(gate, gate.target, columns)
    if names:
        return None, names
    for place, letter in enumerate(gate.target):
        defense, rest = gate.target[:place].strip(), gate.target[place + 1 :].strip()
        if letter == "/" and defense in defenses:
            names = _matching(gate, rest, columns)
            if names:
                return defense, names
            raise UsageError(f"--fail-under {gate}: no column {rest!r}{suggest(rest, _known(columns))}")
    defense, slash, rest = gate.target.partition("/")
    if slash and _matching(gate, rest.strip(), columns):
        raise UsageError(f"--fail-under {gate}: no defense {defense.strip()!r}{suggest(defense.strip(), defenses)}")
    raise UsageError(f"--fail-under {gate}: no column {gate.target!r}{suggest(gate.target, _known(columns))}")


def _matching(gate: Gate, word: str, columns: Sequence[str]) -> list[str]:
    """The columns that a word means: by its whole name, at every eps, or without its parameters."""
    word = _spaced(word)
    if word == "worst":
        word = _WORST
    for shortened in (str, _without_eps, _without_params):
        names = [name for name in ("clean", *columns) if shortened(name) == word]
        if len({_without_eps(name) for name in names}) > 1:
            raise UsageError(f"--fail-under {gate}: {word!r} may be {', '.join(names)}; write one of them")
        if names:
            return names
    return []


def _without_eps(name: str) -> str:
    return name.partition(" @ ")[0]


def _without_params(name: str) -> str:
    return _without_eps(name).partition(":")[0]


def _spaced(word: str) -> str:
    """The table writes "pgd @ 0.1" where a user may write "pgd@0.1"."""
    return " @ ".join(part.strip() for part in word.split("@"))


def _known(columns: Sequence[str]) -> list[str]:
    names = [name for name in columns if not name.startswith(_WORST)]
    return list(dict.fromkeys(["clean", "worst", *map(_without_params, names), *names]))
