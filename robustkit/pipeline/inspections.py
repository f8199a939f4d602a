"""What a bench asks of backdoors and detectors: in units of one model each, wherever they are worked on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from robustkit.hookspecs import DetectorEntry
from robustkit.host import Component, Host
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.describe import search_precision
from robustkit.pipeline.detect import Record, inspect_model, read_records, success_of
from robustkit.pipeline.inputs import judge_inputs
from robustkit.pipeline.keys import component_content, key_of, seed_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.pictures import picture_path
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import error_words
from robustkit.pipeline.store import DETECTIONS, RunStore
from robustkit.pipeline.subjects import Built, TrainingFailed
from robustkit.precision import Chosen


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """One unit of work.

    Args:
        subject: the model.
        detectors: one, which is asked about the model; or none: how well the poison's trigger works on it.
        cells: of attacks on the model, with all detectors of inputs, which judge in one go what these attacks found.
        keys: of the records it makes, in their order.
    """

    subject: Subject
    detectors: tuple[Component, ...] = ()
    cells: tuple[Cell, ...] = ()
    keys: tuple[str, ...]


def plan_inspections(plan: Plan, host: Host) -> list[Inspection]:
    """All that the spec's poison and detectors ask for, in the order of the records."""
    asked = [host.build("detector", text) for text in plan.spec.detectors]
    of_inputs = tuple(one for one in asked if isinstance(one.entry, DetectorEntry) and one.entry.scope == "input")
    attacked = any(cell.attack is not None for cell in plan.cells)
    # without a poison detectors of inputs look for what attacks found; without attacks they say what they lack
    of_models = [one for one in asked if plan.planted is not None or not attacked or one not in of_inputs]
    units = [() for _ in range(plan.planted is not None)] + [(one,) for one in of_models]
    found = [
        Inspection(subject=subject, detectors=unit, keys=(_key(plan, subject, unit),))
        for subject in plan.subjects
        for unit in units
    ]
    for subject in plan.subjects:
        cells = tuple(cell for cell in plan.cells if cell.subject is subject and cell.attack is not None)
        keys = tuple(_input_key(plan, cell, detector) for cell in cells for detector in of_inputs)
        if keys:
            found.append(Inspection(subject=subject, detectors=of_inputs, cells=cells, keys=keys))
    return found


def _key(plan: Plan, subject: Subject, unit: Sequence[Component]) -> str:
    detector = component_content(unit[0]) if unit else None
    content = {"subject": subject.key, "data": plan.data.fingerprint, "count": plan.count, "detector": detector}
    return key_of(content)


def _input_key(plan: Plan, cell: Cell, detector: Component) -> str:
    return key_of({"inputs of": cell.key, "kept": plan.kept, "detector": component_content(detector)})


def still_open(inspections: Iterable[Inspection], known: Mapping[str, Record]) -> list[Inspection]:
    """Those that have a record to make: it is not `known`, or it is an error."""
    return [one for one in inspections if any(k not in known or known[k]["error"] is not None for k in one.keys)]


def inspect(one: Inspection, plan: Plan, model: nn.Module, directory: Path, precision: Chosen) -> list[Record]:
    """Do it: one record a key.

    Args:
        one: of this plan.
        plan: gives data, poison and device.
        model: of the subject, in eval mode on the plan's device.
        directory: has what attacks found, below `adversarial`; see `robustkit.pipeline.adversarial`. Images that a
            detector of models found go into `pictures` there, by the first key.
        precision: of searches whose detector leaves it to be measured; a run measures once, so that all agree.
    """
    detectors = [_settled(detector, precision) for detector in one.detectors]
    if one.cells:
        judged = judge_inputs(plan, directory, list(one.cells), detectors, model)
        records = [judged[cell.key, detector.label] for cell in one.cells for detector in detectors]
    elif detectors:
        seed = seed_of(one.keys[0], 0)
        pictures = picture_path(directory, one.keys[0])
        records = [inspect_model(model, plan.data, plan.planted, detectors[0], seed, plan.device, pictures)]
    else:
        assert plan.planted is not None
        about: Record = {"kind": "backdoor", "manifest": dict(plan.planted.manifest), "error": None}
        records = [about | success_of(model, plan.planted, plan.count, plan.device)]
    return _named(one, records)


def _settled(detector: Component, precision: Chosen) -> Component:
    if getattr(detector.value, "precision", None) != "auto":
        return detector
    return dataclasses.replace(detector, value=dataclasses.replace(detector.value, precision=precision))


def failed_records(one: Inspection, plan: Plan, words: str) -> list[Record]:
    """The records of one that could not be done, and why."""
    if one.cells:
        records: list[Record] = [
            {
                "kind": "inputs",
                "detector": detector.label,
                "component": component_content(detector),
                "attack": cell.label,
                "norm": cell.threat.norm,
                "eps": cell.threat.eps,
            }
            for cell in one.cells
            for detector in one.detectors
        ]
    elif one.detectors:
        entry = one.detectors[0].entry
        assert isinstance(entry, DetectorEntry)
        records = [{"kind": "detector", "detector": one.detectors[0].label, "scope": entry.scope}]
    else:
        assert plan.planted is not None
        nothing = {"value": None, "low": 0.0, "high": 1.0, "n": 0}
        about = {"manifest": dict(plan.planted.manifest), **dict.fromkeys(("accuracy", "asr", "ra"), nothing)}
        records = [{"kind": "backdoor", "detector": plan.planted.poison.label, **about}]
    return _named(one, [record | {"error": words} for record in records])


def _named(one: Inspection, records: Sequence[Record]) -> list[Record]:
    about = {"subject": one.subject.label, "seed": one.subject.seed}
    return [{"key": key, **about, **record} for key, record in zip(one.keys, records, strict=True)]


def keep_records(store: RunStore, records: Sequence[Record]) -> None:
    """Write them at the end of the run's detections.jsonl, in one go."""
    lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    store.append(DETECTIONS, lines.encode())


def inspect_run(
    plan: Plan, store: RunStore, host: Host, build: Callable[[Subject], Built], *, again: bool = True
) -> list[Record]:
    """The records of all inspections of a bench, in their order; what is in the run directory is not done again.

    Args:
        plan: whose spec names a poison or detectors.
        store: of the run, after its attacks; gets detections.jsonl, pictures, and a poison's manifest.json.
        host: where detectors are looked up.
        build: makes the model of a subject; called only where something is missing.
        again: do again here what is an error there; False: workers have just tried.
    """
    if plan.planted is not None:
        store.write("manifest.json", json.dumps(plan.planted.manifest, indent=2))
    inspections = plan_inspections(plan, host)
    known = read_records(store.directory)
    made: dict[str, Built] = {}
    for one in still_open(inspections, known) if again else ():
        try:
            if one.subject.key not in made:
                made = {one.subject.key: build(one.subject)}  # one at a time
            built = made[one.subject.key]
            records = inspect(one, plan, built.model, store.directory, search_precision(built, plan, store)[0])
        except TrainingFailed as failure:
            records = failed_records(one, plan, error_words(failure.__cause__ or failure)[0])
        keep_records(store, records)
        known |= {record["key"]: record for record in records}
    return [known[key] for one in inspections for key in one.keys]
