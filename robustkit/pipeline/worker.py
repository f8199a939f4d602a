"""A worker of a run: makes the plan once, keeps models ready to be judged, and answers with blocks."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from robustkit.contracts import Data
from robustkit.engine.batching import out_of_memory
from robustkit.engine.evaluate import Arena
from robustkit.executors.pool import Fetch
from robustkit.files import as_npz
from robustkit.host import Host, default_host
from robustkit.params import UsageError
from robustkit.pipeline.block import Given, measure_block
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.certified_rows import Asked, certify_group, sheet_content
from robustkit.pipeline.image_blocks import adversarial_block
from robustkit.pipeline.inspections import Inspection, inspect, plan_inspections
from robustkit.pipeline.keys import key_of
from robustkit.pipeline.known import content_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.message import packed, unpacked
from robustkit.pipeline.pictures import picture_path
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

_Part = TypeVar("_Part")

Answer = tuple[float, list[bytes]]
"""Of a block: the seconds it took, and what its task keeps."""


class Worker:
    """Answers messages of `robustkit.pipeline.tasks`.

    It makes the same plan from the same spec, from its own installation and its own reading of the data. Cells and
    inspections are named by their keys, which hold the versions of all plugins and the hash of the data: where these
    are others than the driver's there is no such key here, and its error says so.

    Args:
        fetch: what the driver shares, by name.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._folder = tempfile.TemporaryDirectory(prefix="robustkit-worker-", ignore_cleanup_errors=True)
        self._job: dict[str, Any] = json.loads(fetch(JOB))
        self._bases: dict[int, _Base] = {}
        self._arenas: dict[tuple[Path, str], Arena] = {}
        self._kinds = {"cell": _cell, "inspection": _inspection, "group": _group, "images": _images}
        if Path(self._job["cwd"]).is_dir():
            os.chdir(self._job["cwd"])  # paths and modules that the user named begin there
        torch.set_num_threads(self._job["threads"])

    def __call__(self, message: bytes) -> bytes:
        """Do the blocks that a message names.

        Raises:
            MemoryError, torch.OutOfMemoryError, RuntimeError: memory ran out even for one sample at a time. The worker
                then ends, and another one, with all its memory, tries again.
        """
        plain, given = unpacked(message)
        done: list[dict[str, Any]] = []
        parts: list[bytes] = []
        error = None
        try:
            for block in plain["blocks"]:
                seconds, kept = self._kinds[plain["kind"]](self._base(plain.get("base", 0)), plain, block, given)
                parts += kept
                done.append({"number": block["number"], "seconds": seconds, "parts": len(kept)})
        except (Exception, SystemExit) as failure:  # whatever an attack raises is its cell's error
            if out_of_memory(failure):
                raise
            words, tail = error_words(failure)
            error = {"number": plain["blocks"][len(done)]["number"], "error": words, "traceback": tail}
        return packed({"done": done, "error": error}, parts)

    def _base(self, place: int) -> _Base:
        if place not in self._bases:
            folder = Path(self._folder.name) / str(place)
            known = {base.plan.data.fingerprint: base.plan.data for base in self._bases.values()}
            self._bases[place] = _Base(self._job["plans"][place], self._fetch, folder, self._arenas, known)
        return self._bases[place]


def _cell(base: _Base, plain: dict[str, Any], block: dict[str, Any], _: list[bytes]) -> Answer:
    """Predict, attack or certify a block of a cell."""
    cell = base.cell(plain["key"])
    clean, standing = block["clean"], block["standing"]
    given = Given(
        None if clean is None else torch.tensor(clean, dtype=torch.int64),
        None if standing is None else torch.tensor(standing, dtype=torch.bool),
        tuple(plain["before"]),
    )
    measured = measure_block(base.ready(cell), block["number"], base.arena(cell.subject), base.plan, given)
    kept = [content_of(measured), measured.pictures or b"", measured.adversarial or b""]
    return measured.notes["seconds"], kept


def _inspection(base: _Base, plain: dict[str, Any], block: dict[str, Any], given: list[bytes]) -> Answer:
    """Ask a detector, or all detectors of inputs, about a model."""
    found = base.inspection(plain["key"])
    files = [base.folder / name for name in plain["files"]]
    for path, content in zip(files, given, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    arena = base.arena(found.subject)
    began = time.perf_counter()
    try:
        records = inspect(found, base.plan, arena.model, base.folder, arena.precision)
    finally:
        for path in files:
            path.unlink()
    pictures = picture_path(base.folder, plain["key"])
    shown = pictures.read_bytes() if pictures.is_file() else b""
    return time.perf_counter() - began, [json.dumps(records, allow_nan=False).encode(), shown]


def _group(base: _Base, plain: dict[str, Any], block: dict[str, Any], _: list[bytes]) -> Answer:
    """Certify a group of images of a sheet."""
    certifier = Asked(plain["certifier"], tuple(plain["radii"])).build(default_host())
    subject = base.subject(plain["subject"])
    model = base.arena(subject).model
    if key_of(sheet_content(subject, base.weights[subject.key], certifier, base.plan)) != plain["key"]:
        raise UsageError(base.differing())
    rows, guarantee, seconds = certify_group(model, certifier, base.plan, plain["key"], block["number"])
    return seconds, [json.dumps([rows, guarantee]).encode()]


def _images(base: _Base, plain: dict[str, Any], block: dict[str, Any], _: list[bytes]) -> Answer:
    """Attack a block, for its images."""
    cell = base.cell(plain["key"])
    began = time.perf_counter()
    images = adversarial_block(base.ready(cell), block["number"], base.arena(cell.subject), base.plan)
    return time.perf_counter() - began, [as_npz(images)]


class _Base:
    """A plan of the driver's made here, with its models.

    Args:
        job: what the driver says of it.
        fetch: what the driver shares, by name.
        folder: of this worker's own, laid out as a run directory.
        arenas: the models that the worker keeps, of all plans together.
        known: data of other plans by fingerprint, so that none is held twice.
    """

    def __init__(
        self,
        job: dict[str, Any],
        fetch: Fetch,
        folder: Path,
        arenas: dict[tuple[Path, str], Arena],
        known: Mapping[str, Data],
    ) -> None:
        self.folder = folder
        self.weights: dict[str, str] = job["weights"]
        self._job, self._fetch = job, fetch
        given = dict(job["spec"])
        if job["checkpoint"] is not None:  # the driver's; its name is the model's
            given["checkpoint"] = str(self._fetched(job["checkpoint"]))
        plan = make_plan(BenchSpec.from_plain(given, "the driver's spec"), default_host())
        self.plan = dataclasses.replace(plan, data=known.get(plan.data.fingerprint, plan.data))
        self._arenas = arenas
        self._inspections = plan_inspections(self.plan, default_host())
        self._surrogates = Surrogates(self.plan, default_host(), ModelCache(folder / "cache"), folder)

    def cell(self, key: str) -> Cell:
        """The driver's cell."""
        return self._planned(cell for cell in self.plan.cells if cell.key == key)

    def subject(self, key: str) -> Subject:
        """The driver's model."""
        return self._planned(subject for subject in self.plan.subjects if subject.key == key)

    def inspection(self, key: str) -> Inspection:
        """The driver's inspection, by the first of its keys."""
        return self._planned(one for one in self._inspections if one.keys[0] == key)

    def _planned(self, found: Iterator[_Part]) -> _Part:
        """The first of these parts of the plan; without one, the plan is another than the driver's."""
        part = next(found, None)
        if part is None:
            raise UsageError(self.differing())
        return part

    def ready(self, cell: Cell) -> Cell:
        """The cell whose attack has its surrogate; the driver has trained it, and shares its weights."""
        if cell.surrogate is not None:
            self._fetch_weights(cell.surrogate)
        return self._surrogates.ready(cell)

    def arena(self, subject: Subject) -> Arena:
        """The model ready to be attacked, with its private copies for the search."""
        place = (self.folder, subject.key)
        arena = self._arenas.pop(place, None)
        if arena is None:
            while len(self._arenas) >= READY:
                self._arenas.pop(next(iter(self._arenas)))
            arena = self._built(subject)
        self._arenas[place] = arena  # at the end: the one used last
        return arena

    def _built(self, subject: Subject) -> Arena:
        plan = self.plan
        bases = (other for other in plan.subjects if other.seed == subject.seed and other.role != "defense")
        trained = next(bases) if subject.wraps else subject
        self._fetch_weights(trained)
        built = build_subject(subject, plan, default_host(), ModelCache(self.folder / "cache"), self.folder)
        wanted = self.weights[subject.key]
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
        if subject.defense is not None:
            path = kept_path(subject.label, subject.seed, self.folder)
            for file in (path, path.with_suffix(".json")):
                self._fetched(file.relative_to(self.folder).as_posix())

    def _fetched(self, name: str) -> Path:
        """A shared file, in this worker's own folder."""
        path = self.folder / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._fetch(name))
        return path

    def differing(self) -> str:
        """Why a cell of the driver's is not in the plan that is made here."""
        mine, theirs = decisive(self.plan, default_host()), self._job["decisive"]
        others = [
            f"{name}: {mine.get(name)} here, {theirs[name]} there" for name in theirs if mine.get(name) != theirs[name]
        ]
        return (
            f"a worker on {platform.node()} plans another bench than its driver "
            f"({'; '.join(others) or 'the source of a component differs'}); install the same versions and give "
            "the same data everywhere"
        )


def decisive(plan: Plan, host: Host) -> dict[str, Any]:
    """What driver and workers must agree on, beside the spec."""
    settled = plan.resolved()
    asked = [host.build("detector", text).registered.provider for text in plan.spec.detectors]
    detecting = {provider.name: f"{provider.distribution} {provider.version}" for provider in asked}
    return {"torch": torch.__version__, "data": settled["fingerprint"], **settled["providers"], **detecting}
