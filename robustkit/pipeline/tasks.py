"""What a driver hands to workers: what it asks of them, how it keeps the answers, and what it makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from robustkit.files import from_npz, write_atomically
from robustkit.pipeline.adversarial import adversarial_files
from robustkit.pipeline.block import Given, block_rows, given_of
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.certified_rows import Asked, Sheet
from robustkit.pipeline.events import BlockDone, CellStarted, Certified, Listener
from robustkit.pipeline.image_blocks import Images
from robustkit.pipeline.inspections import Inspection, failed_records, keep_records
from robustkit.pipeline.known import attacks_before, cascade_keys, good_records, keep_block, open_blocks
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.message import packed
from robustkit.pipeline.pictures import picture_path
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import failed_record, now, whole_record
from robustkit.pipeline.schedule import UNKNOWN
from robustkit.pipeline.store import Record, RunStore
from robustkit.pipeline.subjects import Built
from robustkit.precision import Chosen

Failure = tuple[str, list[str]]
"""An error in words, and the end of its traceback."""


class Task(Protocol):
    """Work that is cut into blocks, which workers do in any order. The driver alone writes what comes of it."""

    @property
    def key(self) -> str:
        """Its name in the run, which a worker finds it by in the plan of its own."""
        ...

    @property
    def cost(self) -> float:
        """Of a block, in passes a sample; dear ones go first. See `robustkit.pipeline.schedule`."""
        ...

    @property
    def blocks(self) -> int: ...

    @property
    def needs(self) -> frozenset[str]:
        """Keys of tasks that must be finished before; those that the run does not have are finished."""
        ...

    def open(self) -> Sequence[int]:
        """Its turn has come: the numbers of the blocks that are still to be done."""
        ...

    def message(self, numbers: Sequence[int]) -> bytes:
        """What a worker is asked; see `robustkit.pipeline.worker`."""
        ...

    def keep(self, number: int, parts: Sequence[bytes]) -> None:
        """Keep what a worker answered for one block; called in the thread that serves the worker."""
        ...

    def count(self, number: int) -> int:
        """A block is kept: tell who listens; the images in it."""
        ...

    def finish(self, failure: Failure | None) -> None:
        """All blocks are kept, or one has failed: write what comes of it."""
        ...


class CellTask:
    """A cell of a bench. Its record is there when it is finished."""

    def __init__(
        self, cell: Cell, built: Built, plan: Plan, store: RunStore, precision: Chosen, listen: Listener
    ) -> None:
        self.cell, self.key, self.blocks = cell, cell.key, plan.blocks
        self.record: Record = {}
        self._built, self._plan, self._store = built, plan, store
        self._precision, self._listen = precision, listen
        self._given, self._started, self._done = Given(), "", 0

    @property
    def cost(self) -> float:
        """Clean cells first, since attacks wait for them; then what nobody can tell, then by passes a sample."""
        if self.cell.kind == "clean":
            return float("inf")
        return UNKNOWN if self.cell.passes is None else float(self.cell.passes)

    @property
    def needs(self) -> frozenset[str]:
        if self.cell.attack is None:
            return frozenset()
        cells = self._plan.cells
        clean = next(cell.key for cell in cells if cell.subject is self.cell.subject and cell.kind == "clean")
        return frozenset([clean, *cascade_keys(self.cell, self._plan)])

    def open(self) -> Sequence[int]:
        self._started = now()
        known = good_records(self._plan, self._store) if self._plan.spec.cascade else {}
        self._given = given_of(self.cell, attacks_before(self.cell, self._plan, known), self._plan, self._store)
        numbers = open_blocks(self.cell, self._plan, self._given, self._store)
        self._done = self._plan.blocks - len(numbers)
        self._listen(CellStarted(self.cell, self._done, self._plan.blocks))
        return numbers

    def message(self, numbers: Sequence[int]) -> bytes:
        blocks = []
        for number in numbers:
            given = self._given.of(block_rows(number, self._plan))
            clean = None if given.clean is None else given.clean.tolist()
            standing = None if given.standing is None else given.standing.tolist()
            blocks.append({"number": number, "clean": clean, "standing": standing})
        return packed({"kind": "cell", "key": self.key, "before": list(self._given.before), "blocks": blocks})

    def keep(self, number: int, parts: Sequence[bytes]) -> None:
        content, pictures, adversarial = parts
        keep_block(self.cell, number, content, pictures or None, adversarial or None, self._store)

    def count(self, number: int) -> int:
        self._done += 1
        self._listen(BlockDone(self.cell, self._done, self._plan.blocks))
        rows = block_rows(number, self._plan)
        return len(range(rows.start, rows.stop))

    def finish(self, failure: Failure | None) -> None:
        columns = None
        if failure is not None:
            self.record = failed_record(self.cell, self._plan, self._built, *failure)
        else:
            whole = []
            for number in range(self._plan.blocks):
                found = self._store.block(self.key, number)
                assert found is not None
                whole.append(({name: values.copy() for name, values in found[0].items()}, found[1]))  # frees the file's
            self.record, columns = whole_record(
                self.cell, self._plan, self._built, self._precision, self._started, whole
            )
        self._store.finish(self.record, columns)
        self._given = Given()


class InspectionTask:
    """One block: backdoor or detector and one model, or all detectors of inputs and what attacks found on it."""

    blocks = 1
    cost = UNKNOWN

    def __init__(self, inspection: Inspection, plan: Plan, store: RunStore) -> None:
        self.key = inspection.keys[0]
        self.needs = frozenset(cell.key for cell in inspection.cells)
        self._inspection, self._plan, self._store = inspection, plan, store
        self._records: list[Record] = []

    def open(self) -> Sequence[int]:
        return [0]

    def message(self, numbers: Sequence[int]) -> bytes:
        root = self._store.directory
        files = [file for cell in self._inspection.cells for file in adversarial_files(self._plan, root, cell)]
        names = [file.relative_to(root).as_posix() for file in files]
        asked = {"kind": "inspection", "key": self.key, "files": names, "blocks": [{"number": k} for k in numbers]}
        return packed(asked, [file.read_bytes() for file in files])

    def keep(self, number: int, parts: Sequence[bytes]) -> None:
        self._records = json.loads(parts[0])
        if parts[1]:
            write_atomically(picture_path(self._store.directory, self.key), parts[1])

    def count(self, number: int) -> int:
        return 0

    def finish(self, failure: Failure | None) -> None:
        if failure is not None:
            self._records = failed_records(self._inspection, self._plan, failure[0])
        keep_records(self._store, self._records)


class SheetTask:
    """A sheet of certificates, group by group. `failure` is why some of them are missing, when it is finished."""

    def __init__(self, sheet: Sheet, asked: Asked, subject: Subject, base: int, cost: float, listen: Listener) -> None:
        self.sheet, self.cost, self.blocks = sheet, cost, sheet.groups
        self.key = f"{base}/{sheet.label}"  # not the sheet's: files of other names may hold the same weights
        self.needs: frozenset[str] = frozenset()
        self.failure: Failure | None = None
        self._asked, self._subject, self._base, self._listen = asked, subject, base, listen

    def open(self) -> Sequence[int]:
        return self.sheet.missing

    def message(self, numbers: Sequence[int]) -> bytes:
        asked = {"certifier": self._asked.text, "radii": list(self._asked.radii), "subject": self._subject.key}
        blocks = [{"number": number} for number in numbers]
        return packed({"kind": "group", "base": self._base, "key": self.sheet.key, **asked, "blocks": blocks})

    def keep(self, number: int, parts: Sequence[bytes]) -> None:
        self.sheet.add(number, *json.loads(parts[0]))

    def count(self, number: int) -> int:
        self._listen(Certified(self.sheet.label, self.sheet.done, self.sheet.count))
        return len(self.sheet.images(number))

    def finish(self, failure: Failure | None) -> None:
        self.failure = failure


class ImagesTask:
    """An attack whose images are wanted; `images` by block, and `failure` if there is one, when it is finished."""

    cost = UNKNOWN

    def __init__(self, cell: Cell, plan: Plan, listen: Listener) -> None:
        self.key, self.blocks = cell.key, plan.blocks
        self.needs: frozenset[str] = frozenset()
        self.images: dict[int, Images] = {}
        self.failure: Failure | None = None
        self._cell, self._plan, self._listen = cell, plan, listen

    def open(self) -> Sequence[int]:
        self._listen(CellStarted(self._cell, 0, self.blocks))
        return range(self.blocks)

    def message(self, numbers: Sequence[int]) -> bytes:
        return packed({"kind": "images", "key": self.key, "blocks": [{"number": number} for number in numbers]})

    def keep(self, number: int, parts: Sequence[bytes]) -> None:
        self.images[number] = from_npz(parts[0])

    def count(self, number: int) -> int:
        self._listen(BlockDone(self._cell, len(self.images), self.blocks))
        return len(self.images[number]["y"])

    def finish(self, failure: Failure | None) -> None:
        self.failure = failure
