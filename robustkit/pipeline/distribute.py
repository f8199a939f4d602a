"""Tasks on many workers: hands out blocks, keeps what comes back, and finishes tasks whose blocks are all there."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import torch

from robustkit.executors.pool import Executor, WorkerLost
from robustkit.host import Host
from robustkit.pipeline.events import Fleet, Listener
from robustkit.pipeline.message import unpacked
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.schedule import TRIES, Group, Lane, Schedule
from robustkit.pipeline.subjects import Built, kept_path
from robustkit.pipeline.tasks import Failure, Task
from robustkit.pipeline.worker import JOB, decisive
from robustkit.precision import Chosen

_HANDLER = "robustkit.pipeline.worker:Worker"
_TOLD = 1.0
T = TypeVar("T", bound=Task)


@dataclass(frozen=True, kw_only=True)
class Base:
    """What all tasks of a run stand on, and workers make or read for themselves.

    Args:
        plan: which workers make again from its spec.
        built: its models, as far as tasks want them.
        directory: has the weights that were trained.
        precision: of the search.
        host: where the plan's components were looked up.
    """

    plan: Plan
    built: Sequence[Built]
    directory: Path
    precision: Chosen
    host: Host


def distribute(tasks: Sequence[T], bases: Sequence[Base], executor: Executor, listen: Listener) -> Iterator[T]:
    """Do tasks on an executor's workers; yields each when it is finished. The executor ends with them.

    The driver alone writes: a block counts when it has come back and is kept, so that nothing is counted twice,
    whatever workers did before they were lost. It holds the rows of the task that it finishes, and no images but the
    few that are kept as pictures or that detectors are to judge.

    Args:
        tasks: whose messages name their base by its place; of a run with one base they needn't.
        bases: at least one; workers are given threads and a device that suit the first.
        executor: not begun yet.
        listen: told about progress.
    """
    threads = max(1, torch.get_num_threads() // executor.size)
    folder = bases[0].directory / "shared"
    try:
        shared = _share(bases, threads, folder)
        executor.begin(_HANDLER, shared, threads, bases[0].plan.device.startswith("cuda"))
        yield from _Driver(tasks, executor, listen).run()
    finally:
        executor.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _share(bases: Sequence[Base], threads: int, folder: Path) -> dict[str, Path]:
    """What workers need, by name: specs with what was settled, and the weights of all models."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {JOB: folder / JOB}
    plans = []
    for place, base in enumerate(bases):
        plan = base.plan
        checkpoint = next((subject.checkpoint for subject in plan.subjects if subject.checkpoint is not None), None)
        if checkpoint is not None:
            shared[f"given/{place}/{checkpoint.name}"] = checkpoint
        device = "cuda" if plan.device.startswith("cuda") else plan.device
        plans.append(
            {
                "spec": dataclasses.replace(plan.spec, device=device).to_plain(),
                "checkpoint": None if checkpoint is None else f"given/{place}/{checkpoint.name}",
                "weights": {built.subject.key: built.about["weights"] for built in base.built},
                "precision": base.precision,
                "decisive": decisive(plan, base.host),
            }
        )
        surrogates = {cell.surrogate.key: cell.surrogate for cell in plan.cells if cell.surrogate is not None}
        for subject in (*plan.subjects, *surrogates.values()):
            path = kept_path(subject.label, subject.seed, base.directory)
            for file in (path, path.with_suffix(".json")) if subject.defense is not None and not subject.wraps else ():
                if file.is_file():
                    shared[file.relative_to(base.directory).as_posix()] = file
    (folder / JOB).write_text(json.dumps({"plans": plans, "threads": threads, "cwd": str(Path.cwd())}))
    return shared


class _Driver(Generic[T]):
    """The loop: hand out, keep, finish."""

    def __init__(self, tasks: Sequence[T], executor: Executor, listen: Listener) -> None:
        self._executor, self._listen = executor, listen
        self._open = {task.key: task for task in tasks}
        self._blocks = sum(task.blocks for task in tasks)
        lanes = [Lane(task.key, task.cost, task.blocks, task.needs) for task in tasks]
        self._schedule = Schedule(lanes, executor.size, lambda lane: self._open[lane.key].open())
        self._failures: dict[str, dict[int, Failure]] = {}
        self._back: SimpleQueue[tuple[Group, dict[str, Any] | BaseException]] = SimpleQueue()
        self._flying = 0
        self._finished = self._failed = self._images = self._lost = 0
        self._began = self._told = time.monotonic()

    def run(self) -> Iterator[T]:
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
            task = self._open[group.lane.key]
            future = self._executor.submit(task.message(group.numbers))
            future.add_done_callback(functools.partial(self._came_back, group, task))

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
                self._fail(group.lane, number, (words, []))
        elif isinstance(answer, BaseException):  # the run directory cannot be written
            raise answer
        else:
            self._count(group, answer)
        self._tell()
        if group.lane.finished:
            yield group.lane

    def _came_back(self, group: Group, task: Task, future: Future[bytes]) -> None:
        """In the thread that serves the worker: keep its blocks, so that one driver's disk serves many workers."""
        try:
            plain, parts = unpacked(future.result())
            rest = iter(parts)
            for block in plain["done"]:
                task.keep(block["number"], list(itertools.islice(rest, block["parts"])))
        except BaseException as error:
            self._back.put((group, error))
        else:
            self._back.put((group, plain))

    def _count(self, group: Group, plain: Mapping[str, Any]) -> None:
        for block in plain["done"]:
            self._images += self._open[group.lane.key].count(block["number"])
        error = plain["error"]
        if error is None:
            self._schedule.measured(group, sum(block["seconds"] for block in plain["done"]))
        else:
            self._fail(group.lane, error["number"], (error["error"], error["traceback"]))
            self._schedule.fail(group)

    def _fail(self, lane: Lane, number: int, failure: Failure) -> None:
        self._failures.setdefault(lane.key, {})[number] = failure

    def _finish(self, lane: Lane) -> T:
        """Let a task make its record, and those that waited for it go."""
        task = self._open.pop(lane.key)
        failures = self._failures.pop(lane.key, {})
        task.finish(failures[min(failures)] if failures else None)
        self._failed += bool(failures)
        self._schedule.settle(lane)
        self._finished += 1
        return task

    def _tell(self) -> None:
        """How far all workers together are, at most once a second."""
        if time.monotonic() - self._told < _TOLD:
            return
        self._told = time.monotonic()
        lanes = self._schedule.lanes.values()
        self._listen(
            Fleet(
                workers=self._executor.size,
                cells_done=self._finished,
                cells=len(lanes),
                blocks_done=self._blocks - sum(lane.left for lane in lanes),
                blocks=self._blocks,
                images_per_second=self._images / (self._told - self._began),
                lost=self._lost,
                failed=self._failed,
                seconds_left=self._schedule.seconds_left(),
            )
        )
