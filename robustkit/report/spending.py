"""What a table of a bench on a budget must say: what was tried on what, and what more time would buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustkit.report.format import percent
from robustkit.tables import Record


def spending(records: Sequence[Record], environment: Mapping[str, Any]) -> list[str]:
    """Lines below the table; none where no budget was kept."""
    budget = environment.get("budget")
    tried = [record for record in records if "coverage" in record]
    if budget is None or (not tried and any(record["kind"] == "attack" for record in records)):
        return []
    lines = [
        f"Budget: {_time(budget['spent'])} of {_time(budget['seconds'])} of attacks, in {budget['blocks']} blocks of "
        "samples; training and clean predictions are not counted. What an attack was not tried on counts as standing, "
        "so that each column is an upper bound on all samples; it counts what the attacks up to it brought down."
    ]
    if not budget["blocks"]:
        lines.append("No attack fitted into this budget.")
    for subject in dict.fromkeys((r["subject"]["label"], r["subject"]["seed"]) for r in records):
        mine = [r for r in tried if (r["subject"]["label"], r["subject"]["seed"]) == subject and r["status"] == "ok"]
        if mine:
            several = len({record["subject"]["seed"] for record in records}) > 1
            name = f"{subject[0]} (seed {subject[1]})" if several else subject[0]
            lines.append(f"{name}, tried on: {'; '.join(map(_coverage, mine))}.")
    return [*lines, _next(budget)]


def _coverage(record: Record) -> str:
    covered = record["coverage"]
    whom = "survivor" if covered["survivors"] else "sample"
    words = f"{record['component']['label']} {covered['attacked']} {whom}{'' if covered['attacked'] == 1 else 's'}"
    return f"{words}, not yet on {covered['open']} that stand (incomplete)" if covered["open"] else words


def _next(budget: Mapping[str, Any]) -> str:
    """What the next minute would probably buy, and how that is known."""
    models, span = budget["models"], "minute" if budget["next"] == 60 else _time(budget["next"])
    several = len({model["seed"] for model in models}) > 1
    names = [f"{model['label']} (seed {model['seed']})" if several else model["label"] for model in models]
    if not budget["open"]:
        return "More time would buy nothing: every attack was tried on everything that stands."
    untried = [
        f"{', '.join(model['untried'])} on {name}"
        for name, model in zip(names, models, strict=True)
        if model["untried"]
    ]
    rest = f" Not tried yet, and not in this estimate: {'; '.join(untried)}." if untried else ""
    bought = [
        f"{name} by {model['points']:.2f} points ({', '.join(model['attacks'])})"
        for name, model in zip(names, models, strict=True)
        if model["attacks"]
    ]
    if not bought:
        return f"What the next {span} would buy is not known.{rest}"
    return (
        f"The next {span} would probably lower the worst case of {', of '.join(bought)}: expected from each "
        "attack's measured seconds and success rate on what then stood, (fallen + 1) / (tried + 2), in the order in "
        f"which the budget would be spent.{rest}"
    )


def bounds(found: Sequence[tuple[str, int, float, float, float]]) -> str:
    """The worst cases so far, with their intervals, in a line."""
    several = len({seed for _, seed, *_ in found}) > 1
    return ", ".join(
        f"{label}{f' (seed {seed})' if several else ''} {percent(share)} [{percent(low)}, {percent(high)}]"
        for label, seed, share, low, high in found
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
