"""Backdoors in a bench: a poisoned training set, how well its trigger works, and what detectors say of the model."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Poison, Split, Verdict
from robustkit.data.splits import ArraySplit, fingerprint
from robustkit.engine.backdoor import Share, backdoor_success
from robustkit.engine.guard import guarded, judging
from robustkit.files import write_atomically
from robustkit.hookspecs import DetectorEntry
from robustkit.host import Component, Host
from robustkit.params import UsageError
from robustkit.pipeline.keys import component_content
from robustkit.pipeline.pictures import images_as_npz
from robustkit.pipeline.store import DETECTIONS, parsed
from robustkit.poisons.manifest import manifest
from robustkit.poisons.planting import goal

_AT_ONCE = 500
_JUDGED = 500
"""Clean inputs, and as many triggered ones, that detectors of inputs are tried on."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Planted:
    """Data with a poisoned training part; test and validation parts are clean.

    Args:
        data: poisoned, with a fingerprint of its own.
        clean: the training part before.
        poison: the component.
        manifest: see `robustkit.poisons.manifest`.
    """

    data: Data
    clean: Split
    poison: Component
    manifest: Mapping[str, Any]


def plant_poison(data: Data, text: str, seed: int, host: Host) -> Planted:
    """Poison the training part of `data`; its fingerprint becomes another one, and so do all keys.

    Raises:
        UsageError: unknown poison, or one that does not fit the images or classes.
    """
    component = host.build("poison", text)
    poison: Poison = component.value
    goal(poison, data.val.labels[:1], len(data.classes))
    train = poison(data.train, torch.Generator().manual_seed(seed))
    about = manifest(component.label, poison, data.train, train, seed=seed)
    known = dataclasses.replace(data, train=train, fingerprint=fingerprint(train, data.val, data.test))
    return Planted(known, data.train, component, about)


class Withheld(Split):
    """A part that a detector has no access to."""

    def __init__(self, like: Split, words: str) -> None:
        self._words = words
        self._labels = like.labels[:0]

    def __len__(self) -> int:
        return 0

    @property
    def labels(self) -> Tensor:
        return self._labels

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        raise UsageError(self._words)


def permitted(data: Data, entry: DetectorEntry) -> Data:
    """`data` with nothing in it but what the detector declares to need (`DetectorEntry.access`)."""
    access = entry.access
    words = f"{entry.name} declares access={access!r} and reads a part of the data beyond that"
    kept = {"weights": (), "clean_data": ("val",), "training_set": ("train", "val"), "run_time": ("val", "test")}
    parts = kept[access or "clean_data"]
    withheld = {part: Withheld(getattr(data, part), words) for part in ("train", "val", "test") if part not in parts}
    return dataclasses.replace(data, **withheld)  # type: ignore[arg-type]


def ask(detector: Component, model: nn.Module, data: Data, seed: int) -> tuple[Verdict, float]:
    """A detector's verdict under the guard, with nothing but the data it may read; and the seconds it took."""
    entry = detector.entry
    assert isinstance(entry, DetectorEntry)
    began = time.perf_counter()
    with guarded(model, seed):
        verdict = detector.value(model, permitted(data, entry))
    if not isinstance(verdict, Verdict):
        raise UsageError(f"{detector.label} returned a {type(verdict).__name__}, not a Verdict")
    return verdict, time.perf_counter() - began


def predict(model: nn.Module, x: Tensor, device: str) -> Tensor:
    """(N,) predictions in float32, on the CPU."""
    with judging(model):
        return torch.cat([model(part.to(device)).argmax(dim=1).cpu() for part in torch.split(x, _AT_ONCE)])


def success_of(model: nn.Module, planted: Planted, count: int, device: str) -> Record:
    """Success rate (ASR) and robust accuracy (RA) of the trigger on the first `count` test images."""
    x, y = planted.data.test.batch(torch.arange(count))
    wanted, _ = goal(planted.poison.value, y, len(planted.data.classes))
    triggered = torch.cat([planted.poison.value.trigger(part) for part in torch.split(x, _AT_ONCE)])
    clean = Share(hits=int((predict(model, x, device) == y).sum()), count=len(y))
    found = backdoor_success(predict(model, triggered, device), y, wanted)
    shares = {"accuracy": clean, "asr": found.asr, "ra": found.ra}
    return {
        name: {"value": share.value, "low": share.interval[0], "high": share.interval[1], "n": share.count}
        for name, share in shares.items()
    }


def judged_inputs(model: nn.Module, planted: Planted, device: str) -> tuple[Data, Tensor]:
    """Clean and triggered test images in one part, labelled with the model's predictions; (N,) bool: triggered."""
    data = planted.data
    count = min(_JUDGED, len(data.test) // 2)
    clean, _ = data.test.batch(torch.arange(count))
    x, y = data.test.batch(torch.arange(count, 2 * count))
    _, other = goal(planted.poison.value, y, len(data.classes))
    triggered = planted.poison.value.trigger(x[other])
    inputs = torch.cat([clean, triggered]).clamp(0, 1).float()
    mixed = dataclasses.replace(data, test=ArraySplit(inputs, predict(model, inputs, device)))
    return mixed, torch.arange(len(inputs)) >= count


def verdict_record(detector: Component, verdict: Verdict, seconds: float, positive: Tensor | None) -> Record:
    """A verdict as plain values. `positive` (N,) bool: what a detector of inputs or samples should have flagged."""
    record: Record = {
        "detector": detector.label,
        "component": component_content(detector),
        "scope": detector.entry.scope,  # type: ignore[attr-defined]
        "seconds": round(seconds, 3),
        "cost": dict(verdict.cost),
        "note": verdict.note,
        "classes": list(verdict.classes),
        "table": [dict(row) for row in verdict.table],
        "p_value": verdict.p_value,
        "limit": verdict.limit,
    }
    if not isinstance(verdict.score, Tensor):
        by_class = [float(value) for value in verdict.by_class]
        return record | {"score": float(verdict.score), "flagged": bool(verdict.flagged), "by_class": by_class}
    flagged = torch.as_tensor(verdict.flagged)
    record |= {"score": None, "flagged": None, "flagged_share": float(flagged.double().mean())}
    marked = "triggered" if record["scope"] == "input" else "poisoned"
    groups = {"all": verdict.score} if positive is None else {"clean": verdict.score[~positive]}
    groups |= {} if positive is None else {marked: verdict.score[positive]}
    record["spread"] = {name: spread(score) for name, score in groups.items() if len(score)}
    if positive is not None and bool(positive.any()) and not bool(positive.all()):
        score = verdict.score.double()
        record |= {
            "auroc": auroc(score[positive], score[~positive]),
            "tpr": float(flagged[positive].double().mean()),
            "fpr": float(flagged[~positive].double().mean()),
            "tpr_at_5_fpr": float((score[positive] > torch.quantile(score[~positive], 0.95)).double().mean()),
        }
    return record


def spread(score: Tensor) -> dict[str, float]:
    """Quantiles of scores (n,), n > 0: "0.05" → the score that 5 % stay below, …"""
    found = torch.quantile(score.double(), torch.tensor(QUANTILES, dtype=torch.float64))
    return {f"{level:g}": float(value) for level, value in zip(QUANTILES, found, strict=True)}


def auroc(positive: Tensor, negative: Tensor) -> float:
    """Share of pairs (positive, negative) in the right order, ties counting half (Mann & Whitney 1947)."""
    ordered = negative.sort().values
    below = torch.searchsorted(ordered, positive, right=False)
    upto = torch.searchsorted(ordered, positive, right=True)
    return float((below + upto).double().mean() / (2 * len(negative)))


def marked_samples(planted: Planted) -> Tensor | None:
    """Which training samples the poison changed, (N,) bool; None where it added or removed some."""
    before, after = planted.clean, planted.data.train
    if len(before) != len(after):
        return None
    changed = before.labels != after.labels
    for index in torch.split(torch.arange(len(before)), _AT_ONCE):
        changed[index] |= (before.batch(index)[0] != after.batch(index)[0]).flatten(1).any(dim=1)
    return changed


def inspect_model(
    model: nn.Module,
    data: Data,
    planted: Planted | None,
    detector: Component,
    seed: int,
    device: str,
    pictures: Path | None = None,
) -> Record:
    """What one detector says of one model; an error is a record of its own, never "clean".

    Args:
        model: in eval mode, on `device`.
        data: that it was trained on.
        planted: the poison in them, if one is known.
        detector: of any scope; one of inputs needs a known poison.
        seed: of the detector's random draws.
        device: of the model.
        pictures: file for images that the detector found worth looking at.
    """
    entry = detector.entry
    assert isinstance(entry, DetectorEntry)
    given, positive = data, None
    try:
        if entry.scope == "input":
            if planted is None:
                raise UsageError(
                    f"{detector.label} judges inputs; give a poison, whose triggered images it can look for, or attacks"
                )
            given, positive = judged_inputs(model, planted, device)
        elif entry.scope == "dataset" and planted is not None:
            positive = marked_samples(planted)
        verdict, seconds = ask(detector, model, given, seed)
    except (Exception, SystemExit) as error:  # whatever a detector raises is its record's error
        words = f"{type(error).__name__}: {error}"
        return {"kind": "detector", "detector": detector.label, "scope": entry.scope, "error": words}
    if pictures is not None and verdict.images:
        write_atomically(pictures, images_as_npz(verdict.images))
    return {"kind": "detector", **verdict_record(detector, verdict, seconds, positive), "error": None}


def read_records(directory: Path) -> dict[str, Record]:
    """What detectors said in a run, the last record of each key."""
    path = directory / DETECTIONS
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    return {record["key"]: record for record in map(parsed, lines) if record is not None}


def inspections_of(directory: Path) -> list[Record]:
    """The records of detectors that belong to the last bench in a run directory, in its order."""
    path = directory / "inspections.json"
    known = read_records(directory)
    return [known[key] for key in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
