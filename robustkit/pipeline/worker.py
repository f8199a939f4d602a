"""A worker of a bench: makes the plan once, keeps models ready to be attacked, and answers with blocks."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

from robustkit.engine.batching import out_of_memory
from robustkit.engine.evaluate import Arena
from robustkit.executors.pool import Fetch
from robustkit.host import default_host
from robustkit.params import UsageError
from robustkit.pipeline.block import Given, Measured, measure_block
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.known import content_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.message import packed, unpacked
from robustkit.pipeline.plan import Plan, make_plan
from robustkit.pipeline.records import error_words
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache
from robustkit.pipeline.subjects import build_subject, kept_path
from robustkit.pipeline.surrogates import Surrogates

JOB = "job.json"
"""Under which name the driver shares what its run is; weights are shared under their paths in the run directory."""
READY = 4
"""Models that a worker keeps, the least used one first to go."""


class Worker:
    """Answers messages of `robustkit.pipeline.distribute`.

    It makes the same plan from the same spec, from its own installation and its own reading of the data. Cells are
    named by their keys, which hold the versions of all plugins and the hash of the data: where these are others than
    the driver's there is no such cell here, and its error says so.

    Args:
        fetch: what the driver shares, by name.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._folder = tempfile.TemporaryDirectory(prefix="robustkit-worker-", ignore_cleanup_errors=True)
        self._job: dict[str, Any] = json.loads(fetch(JOB))
        self._plan: Plan | None = None
        self._arenas: dict[str, Arena] = {}
        self._surrogates: Surrogates | None = None
        if Path(self._job["cwd"]).is_dir():
            os.chdir(self._job["cwd"])  # paths and modules that the user named begin there
        torch.set_num_threads(self._job["threads"])

    def __call__(self, message: bytes) -> bytes:
        """Measure the blocks that a message names.

        Raises:
            MemoryError, torch.OutOfMemoryError, RuntimeError: memory ran out even for one sample at a time. The worker
                then ends, and another one, with all its memory, tries again.
        """
        plain, _ = unpacked(message)
        done: list[dict[str, Any]] = []
        parts: list[bytes] = []
        error = None
        try:
            for given in plain["blocks"]:
                measured = self._measured(plain, given)
                parts += [content_of(measured), measured.pictures or b"", measured.adversarial or b""]
                done.append({"number": given["number"], "seconds": measured.notes["seconds"]})
        except (Exception, SystemExit) as failure:  # whatever an attack raises is its cell's error
            if out_of_memory(failure):
                raise
            words, tail = error_words(failure)
            error = {"number": plain["blocks"][len(done)]["number"], "error": words, "traceback": tail}
        return packed({"done": done, "error": error}, parts)

    def _measured(self, plain: dict[str, Any], block: dict[str, Any]) -> Measured:
        plan = self._made_plan()
        cell = next((cell for cell in plan.cells if cell.key == plain["cell"]), None)
        if cell is None:
            raise UsageError(self._differing(plan))
        clean, standing = block["clean"], block["standing"]
        given = Given(
            None if clean is None else torch.tensor(clean, dtype=torch.int64),
            None if standing is None else torch.tensor(standing, dtype=torch.bool),
            tuple(plain["before"]),
        )
        return measure_block(self._ready(cell, plan), block["number"], self._arena(cell.subject, plan), plan, given)

    def _made_plan(self) -> Plan:
        """The driver's plan, made here; a checkpoint is the one that the driver shares."""
        if self._plan is None:
            given = dict(self._job["spec"])
            if self._job["checkpoint"] is not None:
                given["checkpoint"] = str(self._fetched(self._job["checkpoint"]))
            self._plan = make_plan(BenchSpec.from_plain(given, "the driver's spec"), default_host())
        return self._plan

    def _ready(self, cell: Cell, plan: Plan) -> Cell:
        """The cell whose attack has its surrogate; the driver has trained it, and shares its weights."""
        if cell.surrogate is None:
            return cell
        if self._surrogates is None:
            folder = Path(self._folder.name)
            self._surrogates = Surrogates(plan, default_host(), ModelCache(folder / "cache"), folder)
        self._fetch_weights(cell.surrogate)
        return self._surrogates.ready(cell)

    def _arena(self, subject: Subject, plan: Plan) -> Arena:
        """The model ready to be attacked, with its private copies for the search."""
        arena = self._arenas.pop(subject.key, None)
        if arena is None:
            while len(self._arenas) >= READY:
                self._arenas.pop(next(iter(self._arenas)))
            arena = self._built(subject, plan)
        self._arenas[subject.key] = arena  # at the end: the one used last
        return arena

    def _built(self, subject: Subject, plan: Plan) -> Arena:
        folder = Path(self._folder.name)
        bases = (other for other in plan.subjects if other.seed == subject.seed and other.role != "defense")
        trained = next(bases) if subject.wraps else subject
        self._fetch_weights(trained)
        built = build_subject(subject, plan, default_host(), ModelCache(folder / "cache"), folder)
        wanted = self._job["weights"][subject.key]
        if built.about["weights"] != wanted:
            raise UsageError(
                f"{subject.label} has the weights {built.about['weights'][:12]} here and {wanted[:12]} in the driver; "
                "a model that brings its weights must bring the same ones to every machine"
            )
        example, _ = plan.data.test.batch(torch.arange(min(64, plan.count)))
        return Arena(
            built.model, self._job["precision"], plan.spec.batch_size, example.to(plan.device), eot=plan.spec.eot
        )

    def _fetch_weights(self, subject: Subject) -> None:
        """What the driver trained lies where this worker will look for it."""
        folder = Path(self._folder.name)
        if subject.defense is not None:
            path = kept_path(subject.label, subject.seed, folder)
            for file in (path, path.with_suffix(".json")):
                self._fetched(file.relative_to(folder).as_posix())

    def _fetched(self, name: str) -> Path:
        """A shared file, in this worker's own folder."""
        path = Path(self._folder.name) / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._fetch(name))
        return path

    def _differing(self, plan: Plan) -> str:
        """Why a cell of the driver's is not in the plan that is made here."""
        mine, theirs = decisive(plan), self._job["decisive"]
        others = [
            f"{name}: {mine.get(name)} here, {theirs[name]} there" for name in theirs if mine.get(name) != theirs[name]
        ]
        return (
            f"a worker on {platform.node()} plans another bench than its driver "
            f"({'; '.join(others) or 'the source of a component differs'}); install the same versions and give "
            "the same data everywhere"
        )


def decisive(plan: Plan) -> dict[str, Any]:
    """What driver and workers must agree on, beside the spec."""
    settled = plan.resolved()
    return {"torch": torch.__version__, "data": settled["fingerprint"], **settled["providers"]}
