"""One block of one cell, measured apart from its cell; for runs that choose which blocks they measure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.contracts import NORMS
from robustkit.engine.evaluate import Arena
from robustkit.pipeline.cells import BLOCK, Cell
from robustkit.pipeline.keys import seed_of
from robustkit.pipeline.pictures import keep_pictures, picture_path
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import block_columns, clean_columns
from robustkit.pipeline.store import Columns, RunStore

Notes = dict[str, Any]


def rows_of(number: int, count: int) -> slice:
    """The places of a block's samples, of `count` in all."""
    return slice(number * BLOCK, min((number + 1) * BLOCK, count))


def clean_block(cell: Cell, number: int, arena: Arena, plan: Plan) -> tuple[Columns, Notes]:
    """The model's predictions on one block as it is."""
    began = time.perf_counter()
    part = rows_of(number, plan.count)
    rows = torch.arange(part.start, part.stop)
    x, y = (values.to(plan.device) for values in plan.data.test.batch(rows))
    columns = clean_columns(rows, y, arena.logits(x, seed_of(cell.stream, number)).argmax(dim=1))
    return columns, {"seconds": time.perf_counter() - began, "restored": []}


def attack_block(
    cell: Cell, number: int, arena: Arena, plan: Plan, store: RunStore, *, clean: np.ndarray, standing: np.ndarray
) -> tuple[Columns, Notes]:
    """Attack one block, with the random draws that this block of this cell always has.

    Args:
        cell: of an attack.
        number: of the block.
        arena: of the cell's model.
        plan: gives data, device and how targets are chosen.
        store: gets pictures of the first block.
        clean: (N,) predictions on all clean inputs.
        standing: (N,) bool, samples to attack where they are right.
    """
    assert cell.attack is not None
    part = rows_of(number, plan.count)
    rows = torch.arange(part.start, part.stop)
    x, y = (values.to(plan.device) for values in plan.data.test.batch(rows))
    seed = seed_of(cell.stream, number)
    result = arena.attack(
        cell.attack,
        x,
        y,
        cell.threat,
        seed=seed,
        targets=plan.spec.targets,
        active=_there(standing[part], plan),
        clean_pred=_there(clean[part], plan),
    )
    if number == 0:
        keep_pictures(picture_path(store.directory, cell.key), x, y, result, arena, plan.data.classes, seed)
    return block_columns(rows, y, result), {"seconds": result.seconds, "restored": list(result.restored)}


def untouched(clean: Mapping[str, np.ndarray]) -> Columns:
    """The columns of samples that an attack was not tried on, from those of the clean cell."""
    count = len(clean["label"])
    no, zero = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.float32)
    return {
        "index": clean["index"],
        "label": clean["label"],
        "clean_pred": clean["clean_pred"],
        "adv_pred": clean["clean_pred"],
        "attacked": no,
        "success": no,
        "target": np.full(count, -1, dtype=np.int64),
        **{f"dist_{norm}": zero for norm in NORMS},
        "violation": no,
        "forwards": zero,
        "backwards": zero,
    }


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> Columns:
    """Blocks one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _there(values: np.ndarray, plan: Plan) -> Tensor:
    return torch.from_numpy(values.copy()).to(plan.device)
