"""From a plan to records: cell by cell, block by block, nothing twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from robustkit.engine.evaluate import Arena
from robustkit.executors.pool import Executor
from robustkit.host import Host
from robustkit.pipeline.adversarial import is_kept
from robustkit.pipeline.block import block_rows, counts_still, given_of, measure_block
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.certificates import contradictions
from robustkit.pipeline.describe import describe_plan, search_precision, write_environment
from robustkit.pipeline.detect import read_records
from robustkit.pipeline.distribute import Base, distribute
from robustkit.pipeline.environment import environment
from robustkit.pipeline.events import (
    BlockDone,
    CellDone,
    CellStarted,
    Listener,
    SubjectReady,
    ignore,
)
from robustkit.pipeline.inspections import failed_records, keep_records, plan_inspections, still_open
from robustkit.pipeline.known import attacks_before, content_of, good_records, keep_block, other_weights
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import error_words, failed_record, now, whole_record
from robustkit.pipeline.store import Columns, ModelCache, Record, RunStore
from robustkit.pipeline.subjects import Built, TrainingFailed
from robustkit.pipeline.surrogates import Ready, Surrogates
from robustkit.pipeline.tasks import CellTask, InspectionTask, Task
from robustkit.pipeline.told import build_told

Builder = Callable[[Subject], Built]


def run(
    plan: Plan,
    store: RunStore,
    *,
    host: Host,
    cache: ModelCache,
    listen: Listener = ignore,
    build: Builder | None = None,
    executor: Executor | None = None,
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
        executor: whose workers measure, and ask the plan's detectors, too; see `robustkit.pipeline.inspections`. None:
            this process measures. Models are trained here in either case.

    Returns:
        One record a cell, in the plan's order.
    """
    good = good_records(plan, store)
    done: dict[str, Record] = {}
    tasks: list[Task] = []
    ready: list[Built] = []
    surrogates = Surrogates(plan, host, cache, store.directory, listen)

    def told(measured: Iterable[tuple[Cell, Record]]) -> None:
        for cell, record in measured:
            done[cell.key] = record
            listen(CellDone(cell, record, False))

    describe_plan(plan, store)
    if any(cell.key not in good for cell in plan.cells):
        write_environment(store, store.read_json("environment.json") | environment(plan.device))
    inspections = [] if executor is None else still_open(plan_inspections(plan, host), read_records(store.directory))
    for subject in plan.subjects:
        cells = [cell for cell in plan.cells if cell.subject is subject]
        asked = [one for one in inspections if one.subject is subject]
        built = None
        if asked or any(cell.key not in good for cell in cells):
            try:
                built = _built(subject, plan, store, host, cache, listen, build)
            except TrainingFailed as failure:  # the other subjects go on
                words, tail = error_words(failure.__cause__ or failure)
                for cell in cells:
                    done[cell.key] = failed_record(cell, plan, None, words, tail)
                    store.finish(done[cell.key], None)
                    listen(CellDone(cell, done[cell.key], False))
                for one in asked:
                    keep_records(store, failed_records(one, plan, words))
                continue
            good = {key: record for key, record in good.items() if not other_weights(record, built)}
        open_cells = []
        for cell in cells:
            if cell.key in good:
                done[cell.key] = good[cell.key]
                listen(CellDone(cell, good[cell.key], True))
            else:
                open_cells.append(cell)
        if built is None:
            continue
        precision, example = search_precision(built, plan, store)
        if executor is None:
            arena = Arena(built.model, precision, plan.spec.batch_size, example, eot=plan.spec.eot)
            told(_judge(open_cells, built, arena, plan, store, listen, surrogates.ready))
        else:
            ready.append(dataclasses.replace(built, model=nn.Identity()))  # workers read the weights themselves
            tasks += [CellTask(cell, ready[-1], plan, store, precision, listen) for cell in open_cells]
            tasks += [InspectionTask(one, plan, store) for one in asked]
    if executor is not None and tasks:
        surrogates.build(task.cell for task in tasks if isinstance(task, CellTask))
        base = Base(plan=plan, built=ready, directory=store.directory, precision=precision, host=host)
        finished = distribute(tasks, [base], executor, listen)
        told((task.cell, task.record) for task in finished if isinstance(task, CellTask))
    for key, error in contradictions(list(done.values()), store).items():
        done[key] = done[key] | {"status": "error", "error": error, "metrics": {}}
        store.finish(done[key], None)
    return store.in_order([done[cell.key] for cell in plan.cells])


def _built(
    subject: Subject,
    plan: Plan,
    store: RunStore,
    host: Host,
    cache: ModelCache,
    listen: Listener,
    build: Builder | None,
) -> Built:
    built = build_told(subject, plan, host, cache, store.directory, listen) if build is None else build(subject)
    listen(SubjectReady(subject, built.cached))
    return built


def _judge(
    cells: list[Cell], built: Built, arena: Arena, plan: Plan, store: RunStore, listen: Listener, ready: Ready
) -> Iterator[tuple[Cell, Record]]:
    """Measure the open cells of one subject, in this process."""
    for cell in cells:
        columns: Columns | None
        try:
            record, columns = _measure(cell, arena, plan, store, listen, built, ready)
        except (Exception, SystemExit) as error:  # whatever an attack raises is its cell's error, never "robust"
            record, columns = failed_record(cell, plan, built, *error_words(error)), None
        store.finish(record, columns)
        yield cell, record


def _measure(
    cell: Cell, arena: Arena, plan: Plan, store: RunStore, listen: Listener, built: Built, ready: Ready
) -> tuple[Record, Columns]:
    """All blocks of one cell."""
    started = now()
    before = attacks_before(cell, plan, good_records(plan, store)) if plan.spec.cascade else []
    given = given_of(cell, before, plan, store)
    blocks: list[tuple[Columns, Mapping[str, Any]]] = []
    listen(CellStarted(cell, len(store.blocks(cell.key)), plan.blocks))
    for number in range(plan.blocks):
        known = store.block(cell.key, number)
        kept = is_kept(plan, store.directory, cell, number)
        if known is None or not kept or not counts_still(known[1], cell, number, given):
            measured = measure_block(ready(cell), number, arena, plan, given.of(block_rows(number, plan)))
            keep_block(cell, number, content_of(measured), measured.pictures, measured.adversarial, store)
            known = measured.columns, measured.notes
        blocks.append(known)
        listen(BlockDone(cell, number + 1, plan.blocks))
    return whole_record(cell, plan, built, arena.precision, started, blocks)
