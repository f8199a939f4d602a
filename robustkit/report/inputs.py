"""What detectors of inputs make of each attack: one table, for people and as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robustkit.contracts import Threat
from robustkit.report.files import markdown
from robustkit.report.format import FAILED, MISSING, percent

Record = Mapping[str, Any]
TITLE = "Adversarial inputs and their detectors"
LEGEND = (
    "AUROC of the adversarial inputs that fooled the model against clean test images, with its 95 % interval, and in "
    "percent the share of them that is detected (TPR) at the score that 5 % of clean validation images exceed. "
    "Below each model: the share of clean test images above that score (FPR)."
)
_CLEAN = "clean (FPR)"


def of_inputs(inspections: Sequence[Record]) -> list[Record]:
    return [record for record in inspections if record["kind"] == "inputs"]


def input_table(records: Sequence[Record]) -> pd.DataFrame:
    """Texts: a row for each model and attack and one for clean images, a column a detector.

    Args:
        records: of `robustkit.pipeline.inputs`.
    """
    detectors = list(dict.fromkeys(record["detector"] for record in records))
    rows: list[dict[str, str]] = []
    for defense, seed in dict.fromkeys((record["subject"], record["seed"]) for record in records):
        mine = [record for record in records if (record["subject"], record["seed"]) == (defense, seed)]
        head = {"defense": str(defense), "seed": str(seed)}
        for attack, norm, eps in dict.fromkeys((r["attack"], r["norm"], r["eps"]) for r in mine):
            here = {r["detector"]: r for r in mine if (r["attack"], r["eps"]) == (attack, eps)}
            count = next((str(r["adversarial"]) for r in here.values() if r["error"] is None), MISSING)
            said = {name: _words(here[name]) for name in detectors}
            rows.append(head | {"attack": f"{attack} @ {Threat(norm, eps)}", "inputs": count} | said)
        found = {r["detector"]: r for r in mine if r["error"] is None}
        count = next((str(r["clean"]) for r in found.values()), MISSING)
        shares = {name: _share(found[name]["fpr"]) if name in found else FAILED for name in detectors}
        rows.append(head | {"attack": _CLEAN, "inputs": count} | shares)
    table = pd.DataFrame(rows)
    return table.drop(columns="seed") if table["seed"].nunique() == 1 else table


def input_lines(records: Sequence[Record]) -> list[str]:
    """What stands below the table: what the numbers are, notes of detectors, and errors."""
    notes = dict.fromkeys(f"{r['detector']}: {r['note']}" for r in records if r.get("note"))
    errors = dict.fromkeys(
        f"error in {r['subject']} / {r['attack']} / {r['detector']}: {r['error']}" for r in records if r["error"]
    )
    return [LEGEND, *notes, *errors]


def input_markdown(records: Sequence[Record]) -> str:
    return f"{TITLE}\n\n" + markdown(input_table(records), input_lines(records))


def input_numbers(records: Sequence[Record]) -> pd.DataFrame:
    """The same as numbers, a row for each model, attack and detector."""
    rows = []
    for record in records:
        row = {name: record[name] for name in ("subject", "seed", "attack", "norm", "eps", "detector", "error")}
        for name in ("auroc", "tpr", "fpr"):
            found = record.get(name) or {}
            row |= {name: found.get("value"), f"{name}_low": found.get("low"), f"{name}_high": found.get("high")}
        rows.append(row | {name: record.get(name) for name in ("adversarial", "clean", "held")})
    return pd.DataFrame(rows)


def _words(record: Record) -> str:
    if record["error"] is not None:
        return FAILED
    area = record["auroc"]
    if area["value"] is None:
        return MISSING
    return f"{area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]; {_share(record['tpr'])}"


def _share(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return MISSING
    return f"{percent(found['value'])} [{percent(found['low'])}, {percent(found['high'])}]"
