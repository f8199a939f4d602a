"""Blocks measured apart from their cells; for runs that choose which blocks they measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from robustkit.contracts import NORMS
from robustkit.engine.evaluate import Arena
from robustkit.pipeline.block import Given, block_rows, measure_block
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.pictures import picture_path
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import Columns, RunStore

Notes = dict[str, Any]


def clean_block(cell: Cell, number: int, arena: Arena, plan: Plan) -> tuple[Columns, Notes]:
    """The model's predictions on one block as it is; with the first one the model's red flags."""
    found = measure_block(cell, number, arena, plan, Given())
    return found.columns, found.notes


def attack_block(
    cell: Cell, number: int, arena: Arena, plan: Plan, store: RunStore, *, clean: np.ndarray, standing: np.ndarray
) -> tuple[Columns, Notes]:
    """Attack one block, with the random draws that this block of this cell always has.

    Args:
        cell: of an attack that is ready to be called.
        number: of the block.
        arena: of the cell's model.
        plan: gives data, device and how targets are chosen.
        store: gets pictures of the first block.
        clean: (N,) predictions on all clean inputs.
        standing: (N,) bool, samples to attack where they are right.
    """
    given = Given(torch.from_numpy(clean.copy()), torch.from_numpy(standing.copy())).of(block_rows(number, plan))
    found = measure_block(cell, number, arena, plan, given)
    if found.pictures is not None:
        store.keep(picture_path(store.directory, cell.key), found.pictures)
    return found.columns, found.notes


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
