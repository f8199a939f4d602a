"""From a plan to records: cell by cell, block by block, nothing twice."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.engine.batching import Chunked
from robustkit.engine.certify import certify_block, summary
from robustkit.engine.evaluate import Arena
from robustkit.flags.probe import SAMPLES, safely_probed
from robustkit.host import Host
from robustkit.pipeline.cells import BLOCK, Cell
from robustkit.pipeline.certificates import contradictions
from robustkit.pipeline.environment import environment
from robustkit.pipeline.events import (
    BlockDone,
    CellDone,
    CellStarted,
    Listener,
    SubjectReady,
    TrainingStep,
    Waiting,
    ignore,
)
from robustkit.pipeline.keys import seed_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.pictures import keep_pictures, picture_path
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import block_columns, clean_columns, metrics, record_of
from robustkit.pipeline.spec import to_toml
from robustkit.pipeline.store import Columns, ModelCache, Record, RunStore
from robustkit.pipeline.subjects import Built, TrainingFailed, build_subject
from robustkit.precision import Chosen, choose_precision

Builder = Callable[[Subject], Built]


def run(
    plan: Plan,
    store: RunStore,
    *,
    host: Host,
    cache: ModelCache,
    listen: Listener = ignore,
    build: Builder | None = None,
) -> list[Record]:
    """Measure every cell of a plan that has no good record yet.

    A cell that fails is a record of status "error", and the others go on. Interrupted at any moment, the same
    call goes on where it stopped; at most one block of samples is measured again.

    Args:
        plan: what to measure.
        store: an open run directory.
        host: where architectures are looked up.
        cache: of trained models.
        listen: told about everything that happens.
        build: makes the model of a subject; None trains or loads it.

    Returns:
        One record a cell, in the plan's order.
    """
    good = _good(plan, store)
    done: dict[str, Record] = {}
    describe_plan(plan, store)
    if any(cell.key not in good for cell in plan.cells):
        write_environment(store, store.read_json("environment.json") | environment(plan.device))
    for subject in plan.subjects:
        cells = [cell for cell in plan.cells if cell.subject is subject]
        built = None
        if any(cell.key not in good for cell in cells):
            try:
                built = _built(subject, plan, store, host, cache, listen, build)
            except TrainingFailed as failure:  # the other subjects go on
                for cell in cells:
                    done[cell.key] = failed_record(cell, plan, store, failure.__cause__ or failure, None)
                    listen(CellDone(cell, done[cell.key], False))
                continue
            good = {key: record for key, record in good.items() if not _other_weights(record, built)}
        open_cells = []
        for cell in cells:
            if cell.key in good:
                done[cell.key] = good[cell.key]
                listen(CellDone(cell, good[cell.key], True))
            else:
                open_cells.append(cell)
        if built is not None:
            for cell, record in _judge(open_cells, built, plan, store, listen):
                done[cell.key] = record
                listen(CellDone(cell, record, False))
    for key, error in contradictions(list(done.values()), store).items():
        done[key] = done[key] | {"status": "error", "error": error, "metrics": {}}
        store.finish(done[key], None)
    return store.in_order([done[cell.key] for cell in plan.cells])


def _good(plan: Plan, store: RunStore) -> dict[str, Record]:
    """The records that need not be made again.

    In a cascade an attack that failed before and works now changes what the later ones are given, so they
    count only where the same attacks came before them.
    """
    known = {
        key: record for key, record in store.records().items() if record["status"] == "ok" and store.has_samples(key)
    }
    good: dict[str, Record] = {}
    for cell in plan.cells:
        record = known.get(cell.key)
        if record is not None and record.get("after", []) == _before(cell, plan, good):
            good[cell.key] = record
    return good


def _before(cell: Cell, plan: Plan, good: Mapping[str, Any]) -> list[str]:
    """With a cascade: the keys of the attacks on this subject that come before this one, as far as in `good`."""
    if not plan.spec.cascade or cell.attack is None:
        return []
    mine = [other for other in plan.cells if other.subject is cell.subject and other.attack is not None]
    return [other.key for other in mine[: mine.index(cell)] if other.key in good]


def _other_weights(record: Record, built: Built) -> bool:
    """A record of this subject, but of weights that are gone and were trained again, on another machine maybe."""
    subject = record["subject"]
    return bool(subject["key"] == built.subject.key and subject["weights"] != built.about["weights"])


def _built(
    subject: Subject,
    plan: Plan,
    store: RunStore,
    host: Host,
    cache: ModelCache,
    listen: Listener,
    build: Builder | None,
) -> Built:
    if build is not None:
        built = build(subject)
    else:
        built = build_subject(
            subject,
            plan,
            host,
            cache,
            store.directory,
            report=lambda progress: listen(TrainingStep(subject, progress)),
            waiting=lambda: listen(Waiting(subject)),
        )
    listen(SubjectReady(subject, built.cached))
    return built


def _judge(
    cells: list[Cell], built: Built, plan: Plan, store: RunStore, listen: Listener
) -> Iterator[tuple[Cell, Record]]:
    """Measure the open cells of one subject."""
    example, _ = plan.data.test.batch(torch.arange(min(64, plan.count)))
    example = example.to(plan.device)
    arena = Arena(built.model, search_precision(built, plan, store, example), plan.spec.batch_size, example)
    for cell in cells:
        try:
            record, columns = _measure(cell, arena, plan, store, listen, built)
        except (Exception, SystemExit) as error:  # whatever an attack raises is its cell's error, never "robust"
            yield cell, failed_record(cell, plan, store, error, built)
            continue
        store.finish(record, columns)
        yield cell, record


def _measure(
    cell: Cell, arena: Arena, plan: Plan, store: RunStore, listen: Listener, built: Built
) -> tuple[Record, Columns]:
    """All blocks of one cell."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    blocks: list[Columns] = []
    seconds, restored = 0.0, set[str]()
    before = _before(cell, plan, _good(plan, store)) if plan.spec.cascade else []
    standing = _standing(before, plan, store)
    clean = None if cell.attack is None else _clean_predictions(cell, plan, store)
    found = sum(store.block(cell.key, number) is not None for number in range(plan.blocks))
    listen(CellStarted(cell, found, plan.blocks))
    for number in range(plan.blocks):
        measured = store.block(cell.key, number)
        if measured is None or measured[1]["after"] != before:
            rows = torch.arange(number * BLOCK, min((number + 1) * BLOCK, plan.count))
            x, y = plan.data.test.batch(rows)
            x, y = x.to(plan.device), y.to(plan.device)
            seed = seed_of(cell.stream, number)
            if cell.certifier is not None:
                block = certify_block(built.model, cell.certifier, x, y, rows, cell.threat.norm, seed)
                columns: Columns = block.columns
                notes: dict[str, Any] = {
                    "seconds": block.seconds,
                    "restored": list(block.restored),
                    "after": before,
                    "guarantee": block.guarantee,
                }
            elif cell.attack is None:
                began = time.perf_counter()
                columns = clean_columns(rows, y, arena.logits(x, seed).argmax(dim=1))
                notes = {"seconds": time.perf_counter() - began, "restored": [], "after": before}
            else:
                result = arena.attack(
                    cell.attack,
                    x,
                    y,
                    cell.threat,
                    seed=seed,
                    targets=plan.spec.targets,
                    active=None if standing is None else standing[rows].to(plan.device),
                    clean_pred=None if clean is None else clean[rows].to(plan.device),
                )
                columns = block_columns(rows, y, result)
                if number == 0:
                    path = picture_path(store.directory, cell.key)
                    keep_pictures(path, x, y, result, arena, plan.data.classes, seed)
                notes = {"seconds": result.seconds, "restored": list(result.restored), "after": before}
            store.write_block(cell.key, number, columns, notes)
        else:
            columns, notes = measured
        blocks.append(columns)
        seconds += notes["seconds"]
        restored.update(notes["restored"])
        listen(BlockDone(cell, number + 1, plan.blocks))
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    record = record_of(cell, plan, built) | {
        "status": "ok",
        "error": None,
        "metrics": metrics(whole, cell.threat) if cell.certifier is None else summary(whole, [cell.threat.eps]),
        "precision": arena.precision if cell.certifier is None else "fp32",
        "guarantee": notes.get("guarantee"),
        **({"flags": flags_of(arena, plan)} if cell.kind == "clean" else {}),
        "seconds": round(seconds, 4),
        "restored": sorted(restored),
        "started": started,
        "after": before,
    }
    return record, whole


def flags_of(arena: Arena, plan: Plan) -> list[dict[str, str]]:
    """What speaks against believing any attack on this model."""
    x, y = plan.data.test.batch(torch.arange(min(SAMPLES, plan.count)))
    found = safely_probed(Chunked(arena.model, plan.spec.batch_size), x.to(plan.device), y.to(plan.device))
    return [flag.to_plain() for flag in found]


def failed_record(cell: Cell, plan: Plan, store: RunStore, error: BaseException, built: Built | None) -> Record:
    """Write down that a cell failed, and why."""
    tail = "".join(traceback.format_exception(error)).strip().splitlines()[-12:]
    record = record_of(cell, plan, built) | {
        "status": "error",
        "error": f"{type(error).__name__}: {error}",
        "traceback": tail,
        "metrics": {},
        "precision": None,
        "seconds": None,
        "restored": [],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.finish(record, None)
    return record


def _clean_predictions(cell: Cell, plan: Plan, store: RunStore) -> Tensor | None:
    """The subject's predictions on clean inputs, where its clean cell is done."""
    key = next(other.key for other in plan.cells if other.subject is cell.subject and other.kind == "clean")
    return torch.from_numpy(store.samples(key)["clean_pred"].copy()) if store.has_samples(key) else None


def _standing(before: list[str], plan: Plan, store: RunStore) -> Tensor | None:
    """With a cascade: the samples that none of the attacks before brought down."""
    if not before:
        return None
    standing = torch.ones(plan.count, dtype=torch.bool)
    for key in before:
        standing &= ~torch.from_numpy(store.samples(key)["success"].copy())
    return standing


def search_precision(built: Built, plan: Plan, store: RunStore, example: Tensor) -> Chosen:
    """Settled once for a run, and read again when it is resumed, so that all its cells agree."""
    wanted = plan.spec.precision
    known = store.read_json("environment.json")
    chosen: dict[str, Chosen] = known.get("search_precision", {})
    if wanted not in chosen:
        chosen[wanted] = choose_precision(built.model, example, wanted)
        write_environment(store, known | {"search_precision": chosen})
    return chosen[wanted]


def describe_plan(plan: Plan, store: RunStore) -> None:
    """Write what was asked, and which cells it takes."""
    cells = {"cells": [cell.key for cell in plan.cells], "eps": [threat.eps for threat in plan.threats]}
    store.write("spec.toml", to_toml(plan.spec, plan.resolved()))
    store.write("cells.json", json.dumps(cells, indent=2) + "\n")


def write_environment(store: RunStore, content: dict[str, Any]) -> None:
    store.write("environment.json", json.dumps(content, indent=2) + "\n")
