"""What is kept of a cell: a row a sample, its numbers, and what they are the numbers of."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from torch import Tensor

from robustkit.contracts import Threat
from robustkit.engine.certify import summary
from robustkit.engine.evaluate import BlockResult
from robustkit.hookspecs import AttackEntry, CertifierEntry, DefenseEntry
from robustkit.pipeline.cells import SCHEMA, Cell
from robustkit.pipeline.keys import component_content
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import Columns, Record
from robustkit.pipeline.subjects import Built
from robustkit.precision import Chosen

_NORMS = ("linf", "l2", "l1", "l0")


def clean_columns(rows: Tensor, y: Tensor, pred: Tensor) -> Columns:
    """One row a sample: its place in the data, label and prediction."""
    return {"index": rows.numpy(), "label": _numpy(y), "clean_pred": _numpy(pred)}


def block_columns(rows: Tensor, y: Tensor, result: BlockResult) -> Columns:
    """One row a sample; passes are the block's, spread evenly over the samples that were attacked; queries are the
    sample's own, where the attack counts them.
    """
    attacked = max(int(result.attacked.sum()), 1)
    share = _numpy(result.attacked).astype(np.float32) / attacked
    return {
        "index": rows.numpy(),
        "label": _numpy(y),
        "clean_pred": _numpy(result.clean_pred),
        "adv_pred": _numpy(result.adv_pred),
        "attacked": _numpy(result.attacked),
        "success": _numpy(result.success),
        "target": _numpy(result.target),
        **{f"dist_{norm}": _numpy(getattr(result, f"dist_{norm}")) for norm in _NORMS},
        "violation": _numpy(result.violation),
        "forwards": share * result.forwards,
        "backwards": share * result.backwards,
        **({} if result.queries is None else {"queries": _numpy(result.queries)}),
    }


def metrics(columns: Columns, threat: Threat) -> dict[str, float | int | None]:
    """The numbers of one cell; shares are of all samples, but the success rate, which is of those attacked."""
    right = columns["clean_pred"] == columns["label"]
    count = len(right)
    if "success" not in columns:
        return {"count": count, "clean_right": int(right.sum()), "clean_accuracy": float(right.mean())}
    attacked, success = columns["attacked"], columns["success"]
    tried = int(attacked.sum())
    fooled = attacked & (columns["adv_pred"] != columns["label"])
    distances = columns[f"dist_{threat.norm}"][fooled]
    targets = columns["target"][attacked]
    hits = columns["adv_pred"][attacked] == targets
    return {
        "count": count,
        "clean_right": int(right.sum()),
        "clean_accuracy": float(right.mean()),
        "robust_right": int((right & ~success).sum()),
        "robust_accuracy": float((right & ~success).mean()),
        "attacked": tried,
        "success_rate": float(success.sum() / tried) if tried else None,
        "target_rate": float(hits.mean()) if tried and (targets >= 0).any() else None,
        "median_distance": _median(distances),
        "violations": int(columns["violation"].sum()),
        "forwards": float(columns["forwards"].sum() / tried) if tried else 0.0,
        "backwards": float(columns["backwards"].sum() / tried) if tried else 0.0,
        **({"median_queries": _median(columns["queries"][success])} if "queries" in columns else {}),
    }


def record_of(cell: Cell, plan: Plan, built: Built | None) -> Record:
    """What is known of a cell before it is measured: what, of whom, on which data, under which threat."""
    subject = cell.subject
    defense = None if subject.defense is None else subject.defense.entry
    attack = cell.attack
    component = None
    if attack is not None:
        entry = attack.entry
        assert isinstance(entry, AttackEntry)
        component = {
            **component_content(attack),
            "label": attack.label,
            "goal": entry.goal,
            "knowledge": entry.knowledge,
        }
    elif cell.certifier is not None:
        certifies = cell.certifier.entry
        assert isinstance(certifies, CertifierEntry)
        component = {
            **component_content(cell.certifier),
            "label": cell.certifier.label,
            "goal": "certificate",
            "probabilistic": certifies.probabilistic,
        }
    return {
        "schema": SCHEMA,
        "key": cell.key,
        "kind": cell.kind,
        "subject": {
            "label": subject.label,
            "role": subject.role,
            "obfuscates": isinstance(defense, DefenseEntry) and defense.obfuscates,
            "seed": subject.seed,
            "key": subject.key,
            "model": plan.spec.model,
            "defense": None if subject.defense is None else component_content(subject.defense),
            "weights": None if built is None else built.about["weights"],
            "training_seconds": None if built is None else built.about.get("training_seconds"),
            "collapsed": [] if built is None else built.about.get("collapsed", []),
        },
        "component": component,
        "dataset": {"name": plan.data.name, "fingerprint": plan.data.fingerprint, "n": plan.count},
        "threat": {"norm": cell.threat.norm, "eps": cell.threat.eps},
        "targets": plan.spec.targets,
        "cascade": plan.spec.cascade,
    }


def whole_record(
    cell: Cell,
    plan: Plan,
    built: Built,
    precision: Chosen,
    started: str,
    blocks: Sequence[tuple[Columns, Mapping[str, Any]]],
) -> tuple[Record, Columns]:
    """The record of a cell all of whose blocks are measured, and its columns.

    Args:
        cell: which.
        plan: it is of.
        built: its subject.
        precision: of the search.
        started: when, in ISO format.
        blocks: columns and notes, in order.
    """
    whole = {name: np.concatenate([columns[name] for columns, _ in blocks]) for name in blocks[0][0]}
    notes = [notes for _, notes in blocks]
    record = record_of(cell, plan, built) | {
        "status": "ok",
        "error": None,
        "metrics": metrics(whole, cell.threat) if cell.certifier is None else summary(whole, [cell.threat.eps]),
        "precision": precision if cell.certifier is None else "fp32",
        "guarantee": notes[-1].get("guarantee"),
        **({"flags": notes[0]["flags"]} if cell.kind == "clean" else {}),
        "seconds": round(sum(note["seconds"] for note in notes), 4),
        "restored": sorted({part for note in notes for part in note["restored"]}),
        "started": started,
        "after": notes[0]["after"],
    }
    return record, whole


def failed_record(cell: Cell, plan: Plan, built: Built | None, error: str, tail: Sequence[str]) -> Record:
    """The record of a cell that has no number; `tail` are the last lines of the traceback."""
    return record_of(cell, plan, built) | {
        "status": "error",
        "error": error,
        "traceback": list(tail),
        "metrics": {},
        "precision": None,
        "seconds": None,
        "restored": [],
        "started": now(),
    }


def error_words(error: BaseException) -> tuple[str, list[str]]:
    """An error in one line, and the last lines of its traceback."""
    tail = "".join(traceback.format_exception(error)).strip().splitlines()[-12:]
    return f"{type(error).__name__}: {error}", tail


def now() -> str:
    """The time in UTC, to the second, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
