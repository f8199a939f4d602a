"""Open cells on many workers: hands out blocks, keeps what comes back, and makes records of whole cells."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import nn

from robustkit.executors.pool import Executor, WorkerLost
from robustkit.pipeline.block import Given, block_rows, given_of
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.events import BlockDone, CellStarted, Fleet, Listener
from robustkit.pipeline.known import attacks_before, cascade_keys, good_records, keep_block, open_blocks
from robustkit.pipeline.message import packed, unpacked
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import failed_record, now, whole_record
from robustkit.pipeline.schedule import TRIES, Group, Lane, Schedule
from robustkit.pipeline.store import Record, RunStore
from robustkit.pipeline.subjects import Built, kept_path
from robustkit.pipeline.worker import JOB, decisive
from robustkit.precision import Chosen

_HANDLER = "robustkit.pipeline.worker:Worker"
_TOLD = 1.0


@dataclass
class Lot:
    """The open cells of one subject. Its model stays behind: workers read the weights themselves."""

    cells: Sequence[Cell]
    built: Built

    @classmethod
    def of(cls, cells: Sequence[Cell], built: Built) -> Lot:
        return cls(cells, dataclasses.replace(built, model=nn.Identity()))


@dataclass
class _Open:
    """A cell at work."""

    cell: Cell
    built: Built
    given: Given = field(default_factory=Given)
    started: str = ""
    done: int = 0
    errors: dict[int, tuple[str, list[str]]] = field(default_factory=dict)


def distribute(
    lots: Sequence[Lot], plan: Plan, store: RunStore, executor: Executor, precision: Chosen, listen: Listener
) -> Iterator[tuple[Cell, Record]]:
    """Measure the open cells on an executor's workers; yields each with its record as it is finished.

    The driver alone writes into the run directory: a block counts when its rows have come back and lie there, so that
    nothing is counted twice, whatever workers did before they were lost. It holds the rows of the cell that it
    finishes, and no images but the few that are kept as pictures.
    """
    threads = max(1, torch.get_num_threads() // executor.size)
    folder = store.directory / "shared"
    try:
        shared = _share(lots, plan, store, precision, threads, folder)
        executor.begin(_HANDLER, shared, threads, plan.device.startswith("cuda"))
        yield from _Driver(lots, plan, store, executor, precision, listen).run()
    finally:
        executor.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _share(
    lots: Sequence[Lot], plan: Plan, store: RunStore, precision: Chosen, threads: int, folder: Path
) -> dict[str, Path]:
    """What workers need, by name: the spec with what was settled, and the weights of all models."""
    checkpoint = next((subject.checkpoint for subject in plan.subjects if subject.checkpoint is not None), None)
    device = "cuda" if plan.device.startswith("cuda") else plan.device
    job = {
        "spec": dataclasses.replace(plan.spec, device=device).to_plain(),
        "checkpoint": None if checkpoint is None else f"given/{checkpoint.name}",
        "weights": {lot.built.subject.key: lot.built.about["weights"] for lot in lots},
        "precision": precision,
        "threads": threads,
        "cwd": str(Path.cwd()),
        "decisive": decisive(plan),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB).write_text(json.dumps(job))
    shared = {JOB: folder / JOB}
    if checkpoint is not None:
        shared[f"given/{checkpoint.name}"] = checkpoint
    surrogates = {cell.surrogate.key: cell.surrogate for cell in plan.cells if cell.surrogate is not None}
    for subject in (*plan.subjects, *surrogates.values()):
        path = kept_path(subject.label, subject.seed, store.directory)
        for file in (path, path.with_suffix(".json")) if subject.defense is not None and not subject.wraps else ():
            if file.is_file():
                shared[file.relative_to(store.directory).as_posix()] = file
    return shared


class _Driver:
    """The loop: hand out, keep, finish."""

    def __init__(
        self,
        lots: Sequence[Lot],
        plan: Plan,
        store: RunStore,
        executor: Executor,
        precision: Chosen,
        listen: Listener,
    ) -> None:
        self._plan, self._store, self._executor = plan, store, executor
        self._precision, self._listen = precision, listen
        self._open = {cell.key: _Open(cell, lot.built) for lot in lots for cell in lot.cells}
        clean = {cell.subject.key: cell.key for cell in plan.cells if cell.kind == "clean"}
        lanes = [
            Lane(
                key,
                _cost(work.cell),
                plan.blocks,
                frozenset([clean[work.cell.subject.key], *cascade_keys(work.cell, plan)])
                if work.cell.attack
                else frozenset(),
            )
            for key, work in self._open.items()
        ]
        self._schedule = Schedule(lanes, executor.size, self._opened)
        self._back: SimpleQueue[tuple[Group, dict[str, Any] | BaseException]] = SimpleQueue()
        self._flying = 0
        self._finished = self._failed = self._images = self._lost = 0
        self._began = self._told = time.monotonic()

    def run(self) -> Iterator[tuple[Cell, Record]]:
        while True:
            for lane in self._hand_out():
                yield self._finish(lane)
            if not self._flying:
                return
            for lane in self._take_back():
                yield self._finish(lane)

    def _hand_out(self) -> Iterator[Lane]:
        """Keep two groups a worker under way, so that none waits for the driver; yields lanes with nothing to do."""
        while self._flying < 2 * self._executor.size:
            group = self._schedule.take()
            if group is None:
                return
            if isinstance(group, Lane):
                yield group
                continue
            self._flying += 1
            future = self._executor.submit(self._message(group))
            future.add_done_callback(functools.partial(self._came_back, group, self._open[group.lane.key].cell))

    def _take_back(self) -> Iterator[Lane]:
        """Wait for one group, and keep it; yields its lane where that is finished."""
        try:
            group, answer = self._back.get(timeout=_TOLD)
        except Empty:
            self._tell()
            return
        self._flying -= 1
        if isinstance(answer, WorkerLost):
            self._lost += 1
            number = self._schedule.lost(group)
            if number is not None:
                words = f"WorkerLost: block {number} cost {TRIES} workers; the last one: {answer}"
                self._open[group.lane.key].errors[number] = (words, [])
        elif isinstance(answer, BaseException):  # the run directory cannot be written
            raise answer
        else:
            self._count(group, answer)
        self._tell()
        if group.lane.finished:
            yield group.lane

    def _came_back(self, group: Group, cell: Cell, future: Future[bytes]) -> None:
        """In the thread that serves the worker: keep its blocks, so that one driver's disk serves many workers."""
        try:
            plain, parts = unpacked(future.result())
            for place, block in enumerate(plain["done"]):
                content, pictures, adversarial = parts[3 * place : 3 * place + 3]
                keep_block(cell, block["number"], content, pictures or None, adversarial or None, self._store)
        except BaseException as error:
            self._back.put((group, error))
        else:
            self._back.put((group, plain))

    def _count(self, group: Group, plain: Mapping[str, Any]) -> None:
        work = self._open[group.lane.key]
        for block in plain["done"]:
            rows = block_rows(block["number"], self._plan)
            self._images += rows.stop - rows.start
            work.done += 1
            self._listen(BlockDone(work.cell, work.done, self._plan.blocks))
        if plain["error"] is None:
            self._schedule.measured(group, sum(block["seconds"] for block in plain["done"]))
        else:
            error = plain["error"]
            work.errors[error["number"]] = (error["error"], error["traceback"])
            self._schedule.fail(group)

    def _opened(self, lane: Lane) -> Sequence[int]:
        """The turn of a cell has come: what it is given, and which of its blocks are open."""
        work = self._open[lane.key]
        work.started = now()
        before = (
            attacks_before(work.cell, self._plan, good_records(self._plan, self._store))
            if self._plan.spec.cascade
            else []
        )
        work.given = given_of(work.cell, before, self._plan, self._store)
        numbers = open_blocks(work.cell, self._plan, work.given, self._store)
        work.done = self._plan.blocks - len(numbers)
        self._listen(CellStarted(work.cell, work.done, self._plan.blocks))
        return numbers

    def _message(self, group: Group) -> bytes:
        work = self._open[group.lane.key]
        blocks = []
        for number in group.numbers:
            given = work.given.of(block_rows(number, self._plan))
            clean = None if given.clean is None else given.clean.tolist()
            standing = None if given.standing is None else given.standing.tolist()
            blocks.append({"number": number, "clean": clean, "standing": standing})
        return packed({"cell": group.lane.key, "before": list(work.given.before), "blocks": blocks})

    def _finish(self, lane: Lane) -> tuple[Cell, Record]:
        """Make the record of a cell, and let go of what it was given."""
        work = self._open.pop(lane.key)
        columns = None
        if work.errors:
            self._failed += 1
            record = failed_record(work.cell, self._plan, work.built, *work.errors[min(work.errors)])
        else:
            whole = []
            for number in range(self._plan.blocks):
                found = self._store.block(lane.key, number)
                assert found is not None
                whole.append(({name: values.copy() for name, values in found[0].items()}, found[1]))  # frees the file's
            record, columns = whole_record(work.cell, self._plan, work.built, self._precision, work.started, whole)
        self._store.finish(record, columns)
        self._schedule.settle(lane)
        self._finished += 1
        return work.cell, record

    def _tell(self) -> None:
        """How far all workers together are, at most once a second."""
        if time.monotonic() - self._told < _TOLD:
            return
        self._told = time.monotonic()
        lanes = self._schedule.lanes.values()
        left = sum(lane.left for lane in lanes)
        self._listen(
            Fleet(
                workers=self._executor.size,
                cells_done=self._finished,
                cells=len(lanes),
                blocks_done=len(lanes) * self._plan.blocks - left,
                blocks=len(lanes) * self._plan.blocks,
                images_per_second=self._images / (self._told - self._began),
                lost=self._lost,
                failed=self._failed,
                seconds_left=self._schedule.seconds_left(),
            )
        )


def _cost(cell: Cell) -> float:
    """Clean cells first, since attacks wait for them; then what nobody can tell, then by passes a sample."""
    if cell.kind == "clean":
        return float("inf")
    return 1e18 if cell.passes is None else float(cell.passes)
