"""One block of samples of one cell: the unit of work, of seeding and of resuming, wherever it is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustkit.engine.batching import Chunked
from robustkit.engine.certify import certify_block
from robustkit.engine.evaluate import Arena
from robustkit.flags.probe import SAMPLES, safely_probed
from robustkit.pipeline.adversarial import fallen_inputs
from robustkit.pipeline.cells import BLOCK, Cell
from robustkit.pipeline.keys import seed_of
from robustkit.pipeline.pictures import pictures_of
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import block_columns, clean_columns
from robustkit.pipeline.store import Columns, RunStore


@dataclass(frozen=True)
class Given:
    """What a cell is given of those before it.

    Args:
        clean: (N,) int64, the subject's predictions on clean inputs; None where they are not known.
        standing: (N,) bool, in a cascade what none of the attacks before brought down; None is all.
        before: keys of those attacks.
    """

    clean: Tensor | None = None
    standing: Tensor | None = None
    before: tuple[str, ...] = ()

    def of(self, here: slice) -> Given:
        """The part that is about some samples."""
        clean = None if self.clean is None else self.clean[here]
        return Given(clean, None if self.standing is None else self.standing[here], self.before)


@dataclass(frozen=True)
class Measured:
    """A block's rows by sample, what is noted beside them, of an attack's first block its pictures (npz), and the
    adversarial inputs that detectors want (npz).
    """

    columns: Columns
    notes: dict[str, Any]
    pictures: bytes | None = None
    adversarial: bytes | None = None


def block_rows(number: int, plan: Plan) -> slice:
    """The test samples of a block."""
    return slice(number * BLOCK, min((number + 1) * BLOCK, plan.count))


def measure_block(cell: Cell, number: int, arena: Arena, plan: Plan, given: Given) -> Measured:
    """Predict, attack or certify one block, in the way that its kind of cell wants; `given` is of this block."""
    here = block_rows(number, plan)
    rows = torch.arange(here.start, here.stop)
    x, y = (part.to(plan.device) for part in plan.data.test.batch(rows))
    seed = seed_of(cell.stream, number)
    before = {"after": list(given.before)}
    if cell.certifier is not None:
        block = certify_block(arena.model, cell.certifier, x, y, rows, cell.threat.norm, seed)
        notes = {"seconds": block.seconds, "restored": list(block.restored), "guarantee": block.guarantee, **before}
        return Measured(block.columns, notes)
    if cell.attack is None:
        began = time.perf_counter()
        columns = clean_columns(rows, y, arena.logits(x, seed).argmax(dim=1))
        notes = {"seconds": time.perf_counter() - began, "restored": [], **before}
        return Measured(columns, notes | ({"flags": _flags(arena, plan)} if number == 0 else {}))
    result = arena.attack(
        cell.attack,
        x,
        y,
        cell.threat,
        seed=seed,
        targets=plan.spec.targets,
        active=None if given.standing is None else given.standing.to(plan.device),
        clean_pred=None if given.clean is None else given.clean.to(plan.device),
    )
    pictures = pictures_of(x, y, result, arena, plan.data.classes, seed) if number == 0 else None
    notes = {"seconds": result.seconds, "restored": list(result.restored), **before}
    return Measured(block_columns(rows, y, result), notes, pictures, fallen_inputs(plan, cell, number, result))


def counts_still(notes: Mapping[str, Any], cell: Cell, number: int, given: Given) -> bool:
    """Whether a block that was measured before, with these notes, is one that would be measured now."""
    return notes["after"] == list(given.before) and (cell.kind != "clean" or number > 0 or "flags" in notes)


def given_of(cell: Cell, before: Sequence[str], plan: Plan, store: RunStore) -> Given:
    """What the records of the cells before say; `before` are the attacks of a cascade that worked."""
    if cell.attack is None:
        return Given(before=tuple(before))
    clean = next(other.key for other in plan.cells if other.subject is cell.subject and other.kind == "clean")
    standing = torch.ones(plan.count, dtype=torch.bool)
    for key in before:
        standing &= ~torch.from_numpy(store.samples(key)["success"].copy())
    return Given(
        clean=torch.from_numpy(store.samples(clean)["clean_pred"].copy()) if store.has_samples(clean) else None,
        standing=standing if before else None,
        before=tuple(before),
    )


def _flags(arena: Arena, plan: Plan) -> list[dict[str, str]]:
    """What speaks against believing any attack on this model."""
    x, y = plan.data.test.batch(torch.arange(min(SAMPLES, plan.count)))
    found = safely_probed(Chunked(arena.model, plan.spec.batch_size), x.to(plan.device), y.to(plan.device))
    return [flag.to_plain() for flag in found]
