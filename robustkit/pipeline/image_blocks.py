"""Adversarial images themselves, block by block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from robustkit.engine.evaluate import Arena
from robustkit.pipeline.block import block_rows
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.keys import seed_of
from robustkit.pipeline.plan import Plan

Images = Mapping[str, np.ndarray]


def adversarial_block(cell: Cell, number: int, arena: Arena, plan: Plan) -> Images:
    """Attack one block, with the random draws that it has in a bench.

    Returns:
        x and x_adv (N, C, H, W) float32; y, clean_pred and adv_pred (N,) int64; success and attacked (N,) bool; and the
        distance (N,) float32 in the norm of the cell, by names as in `robustkit.engine.evaluate.BlockResult`.
    """
    assert cell.attack is not None
    here = block_rows(number, plan)
    x, y = (part.to(plan.device) for part in plan.data.test.batch(torch.arange(here.start, here.stop)))
    seed = seed_of(cell.stream, number)
    result = arena.attack(cell.attack, x, y, cell.threat, seed=seed, targets=plan.spec.targets)
    fields = ("x_adv", "clean_pred", "adv_pred", "success", "attacked", f"dist_{cell.threat.norm}")
    found: dict[str, Tensor] = {"x": x, "y": y, **{field: getattr(result, field) for field in fields}}
    return {name: values.cpu().numpy() for name, values in found.items()}
