"""What a run directory knows already: records that need not be made again, and blocks of cells half done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.pipeline.adversarial import adversarial_path, all_kept, is_kept
from robustkit.pipeline.block import Given, Measured, counts_still
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.parquet import encoded
from robustkit.pipeline.pictures import picture_path
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import Record, RunStore
from robustkit.pipeline.subjects import Built


def good_records(plan: Plan, store: RunStore) -> dict[str, Record]:
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
        if record is None or not all_kept(plan, store.directory, cell):
            continue
        if record.get("after", []) == attacks_before(cell, plan, good):
            good[cell.key] = record
    return good


def attacks_before(cell: Cell, plan: Plan, good: Mapping[str, Any]) -> list[str]:
    """With a cascade: the keys of the attacks on this subject that come before this one, as far as in `good`."""
    return [key for key in cascade_keys(cell, plan) if key in good]


def cascade_keys(cell: Cell, plan: Plan) -> list[str]:
    """With a cascade: the keys of all attacks on this subject that come before this one."""
    if not plan.spec.cascade or cell.attack is None:
        return []
    mine = [other.key for other in plan.cells if other.subject is cell.subject and other.attack is not None]
    return mine[: mine.index(cell.key)]


def other_weights(record: Record, built: Built) -> bool:
    """A record of this subject, but of weights that are gone and were trained again, on another machine maybe."""
    subject = record["subject"]
    return bool(subject["key"] == built.subject.key and subject["weights"] != built.about["weights"])


def open_blocks(cell: Cell, plan: Plan, given: Given, store: RunStore) -> list[int]:
    """The numbers of the blocks that are still to be measured.

    Notes are read only where they can tell that a block no longer counts: a run of a million blocks lists its files.
    """
    found = store.blocks(cell.key)
    for number in sorted(found) if plan.spec.cascade or cell.kind == "clean" else ():
        known = store.block(cell.key, number)
        if known is None or not counts_still(known[1], cell, number, given):
            found.discard(number)
    if plan.kept:
        found = {number for number in found if is_kept(plan, store.directory, cell, number)}
    return [number for number in range(plan.blocks) if number not in found]


def keep_block(
    cell: Cell, number: int, content: bytes, pictures: bytes | None, adversarial: bytes | None, store: RunStore
) -> None:
    """Write a block that is measured, what belongs to it first, so that a block which is there is whole."""
    if pictures is not None:
        store.keep(picture_path(store.directory, cell.key), pictures)
    if adversarial is not None:
        store.keep(adversarial_path(store.directory, cell, number), adversarial)
    store.write_block(cell.key, number, content)


def content_of(measured: Measured) -> bytes:
    """The block as it lies on disk."""
    return encoded(measured.columns, measured.notes)
