"""Detectors of inputs against every attack of a bench."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.contracts import Data
from robustkit.data.splits import ArraySplit, Subset
from robustkit.detectors.features import shared_passes, threshold
from robustkit.engine.statistics import auroc_interval, wilson
from robustkit.hookspecs import DetectorEntry
from robustkit.host import Component, Host
from robustkit.pipeline.adversarial import adversarial_inputs, all_kept
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.detect import RECORDS, Record, ask, auroc, predict, read_records, spread
from robustkit.pipeline.keys import component_content, key_of, seed_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan

FPR = 0.05


def inspect_inputs(plan: Plan, directory: Path, host: Host, build: Callable[[Subject], nn.Module]) -> list[Record]:
    """What detectors of inputs make of what each attack found; what is in the run directory is not done again.

    The validation part is cut in two: a detector gets one half, and the other half, judged like inputs, sets the
    threshold that 5 % of clean images exceed. Clean test images, and the adversarial ones that fooled the model, are
    scored and nothing else. All inputs of a model are judged in one go, and each passes it once for all
    detectors that look at logits or features.

    Args:
        plan: whose spec names detectors of inputs and attacks.
        directory: of the run, after its attacks; records go into detections.jsonl.
        host: where detectors are looked up.
        build: makes the model of a subject; called only where something is missing.

    Returns:
        One record for each model, attack and detector, in this order.
    """
    asked = [host.build("detector", text) for text in plan.spec.detectors]
    detectors = [detector for detector in asked if _of_inputs(detector)]
    known = read_records(directory)
    records: list[Record] = []
    for subject in plan.subjects:
        cells = [cell for cell in plan.cells if cell.subject is subject and cell.attack is not None]
        keys = {(cell.key, detector.label): _key(plan, cell, detector) for cell in cells for detector in detectors}
        missing = [key for key in keys.values() if key not in known or known[key]["error"] is not None]
        if missing:
            found = _judge(plan, directory, cells, detectors, build(subject))
            with (directory / RECORDS).open("a", encoding="utf-8") as file:
                for place, record in found.items():
                    known[keys[place]] = {"key": keys[place], "subject": subject.label, "seed": subject.seed, **record}
                    file.write(json.dumps(known[keys[place]], allow_nan=False) + "\n")
        records += [known[key] for key in keys.values()]
    return records


def _of_inputs(detector: Component) -> bool:
    return isinstance(detector.entry, DetectorEntry) and detector.entry.scope == "input"


def _key(plan: Plan, cell: Cell, detector: Component) -> str:
    return key_of({"inputs of": cell.key, "kept": plan.kept, "detector": component_content(detector)})


def _judge(
    plan: Plan, directory: Path, cells: list[Cell], detectors: list[Component], model: nn.Module
) -> dict[tuple[str, str], Record]:
    """Records of one model, by key of the attack's cell and label of the detector."""
    groups = {cell.key: adversarial_inputs(plan, directory, cell) for cell in cells if all_kept(plan, directory, cell)}
    given, held, clean = judged(plan.data, plan.kept, list(groups.values()), model, plan.device)
    found: dict[tuple[str, str], Record] = {}
    with shared_passes():
        for detector in detectors:
            about: Record = {"kind": "inputs", "detector": detector.label, "component": component_content(detector)}
            try:
                verdict, seconds = ask(detector, model, given, seed_of(plan.data.fingerprint, 0))
                score = torch.as_tensor(verdict.score).double().cpu()
                if score.shape != (len(given.test),) or not bool(torch.isfinite(score).all()):
                    raise ValueError(f"{detector.label} gave {tuple(score.shape)} finite scores for {len(given.test)}")
                about |= {"seconds": round(seconds, 3), "note": verdict.note, "error": None}
            except (Exception, SystemExit) as error:  # whatever a detector raises is its records' error
                about |= {"error": f"{type(error).__name__}: {error}"}
            start = held + clean
            for cell in cells:
                attack: Record = {"attack": cell.label, "norm": cell.threat.norm, "eps": cell.threat.eps}
                record = about | attack
                if cell.key not in groups:
                    record |= {"error": record["error"] or "the attack has no result"}
                if record["error"] is None:
                    stop = start + len(groups[cell.key])
                    record |= separation(score[start:stop], score[held : held + clean], score[:held])
                    start = stop
                found[cell.key, detector.label] = record
    return found


def judged(data: Data, count: int, groups: list[Tensor], model: nn.Module, device: str) -> tuple[Data, int, int]:
    """What detectors are given: half of the validation part as such, and in `test` the inputs to be judged.

    Those are the other half of the validation part, the first `count` test images, then `groups` of adversarial ones
    (n, C, H, W), labelled with the model's predictions. The numbers of the first two are returned with them.
    """
    half = Subset(data.val, torch.arange(0, len(data.val), 2))
    held, _ = data.val.batch(torch.arange(1, len(data.val), 2))
    clean, _ = data.test.batch(torch.arange(min(count, len(data.test))))
    inputs = torch.cat([held, clean, *groups]).float()
    mixed = dataclasses.replace(data, val=half, test=ArraySplit(inputs, predict(model, inputs, device)))
    return mixed, len(held), len(clean)


def separation(adversarial: Tensor, clean: Tensor, held: Tensor) -> Record:
    """How well scores tell adversarial from clean inputs, each (n,) float64.

    Returns:
        auroc with its 95 % interval; tpr and fpr, the shares of both above the threshold that 5 % of the clean
        scores `held` exceed, with theirs; None where nothing is adversarial. `limit` is that threshold, `spread` the
        quantiles of clean and adversarial scores.
    """
    if not len(held):
        raise ValueError("no clean score to take the threshold from")
    limit = threshold(held, FPR)
    record: Record = {"adversarial": len(adversarial), "clean": len(clean), "held": len(held)}
    for name, score in (("tpr", adversarial), ("fpr", clean)):
        hits = int((score > limit).sum())
        low, high = wilson(hits, len(score))
        record[name] = {"value": hits / len(score) if len(score) else None, "low": low, "high": high, "n": len(score)}
    area: dict[str, Any] = {"value": None, "low": 0.0, "high": 1.0}
    if len(adversarial) and len(clean):
        value = auroc(adversarial, clean)
        low, high = auroc_interval(value, len(adversarial), len(clean))
        area = {"value": value, "low": low, "high": high}
    groups = {"clean": clean, "adversarial": adversarial}
    quantiles = {name: spread(score) for name, score in groups.items() if len(score)}
    return record | {"auroc": area, "limit": float(limit), "spread": quantiles}
