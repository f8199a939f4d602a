"""Adversarial inputs that a run keeps for the detectors that are to judge them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robustkit.engine.evaluate import BlockResult
from robustkit.files import as_npz, from_npz
from robustkit.pipeline.cells import BLOCK, Cell
from robustkit.pipeline.plan import Plan


def fallen_inputs(plan: Plan, cell: Cell, number: int, result: BlockResult) -> bytes | None:
    """Those inputs of one block that fell, as npz without pickle: x_adv (n, C, H, W) float32; None: nobody asks."""
    if not _wanted(plan, cell, number):
        return None
    rows = result.success[: plan.kept - number * BLOCK]
    return as_npz({"x_adv": result.x_adv[: len(rows)][rows].detach().float().cpu().numpy()})


def is_kept(plan: Plan, directory: Path, cell: Cell, number: int) -> bool:
    """Whether a block has all the inputs that detectors will want."""
    return not _wanted(plan, cell, number) or adversarial_path(directory, cell, number).is_file()


def all_kept(plan: Plan, directory: Path, cell: Cell) -> bool:
    return all(is_kept(plan, directory, cell, number) for number in range(plan.blocks))


def adversarial_inputs(plan: Plan, directory: Path, cell: Cell) -> Tensor:
    """(n, C, H, W) float32 in [0, 1]: what fell among the first `plan.kept` test samples."""
    files = adversarial_files(plan, directory, cell)
    return torch.cat([torch.from_numpy(from_npz(path)["x_adv"]) for path in files])


def adversarial_files(plan: Plan, directory: Path, cell: Cell) -> list[Path]:
    """The files that a run directory has of them, block by block; all or none."""
    wanted = [number for number in range(plan.blocks) if _wanted(plan, cell, number)]
    return [adversarial_path(directory, cell, number) for number in wanted] if all_kept(plan, directory, cell) else []


def _wanted(plan: Plan, cell: Cell, number: int) -> bool:
    return cell.attack is not None and number * BLOCK < plan.kept


def adversarial_path(directory: Path, cell: Cell, number: int) -> Path:
    """Where the inputs of a block lie in a run directory."""
    return directory / "adversarial" / cell.key / f"{number:05}.npz"
