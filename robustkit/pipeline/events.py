"""What a run tells while it works; the command line shows it, a notebook may ignore it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustkit.contracts import TrainingProgress
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.looks import Verdict


@dataclass(frozen=True)
class SubjectReady:
    """A model is loaded; `cached`: it had been trained before."""

    subject: Subject
    cached: bool


@dataclass(frozen=True)
class Waiting:
    """Another process trains this model right now; when it is done, it is loaded."""

    subject: Subject


@dataclass(frozen=True)
class TrainingStep:
    subject: Subject
    progress: TrainingProgress


@dataclass(frozen=True)
class CellStarted:
    cell: Cell
    done: int  # blocks found finished
    blocks: int


@dataclass(frozen=True)
class BlockDone:
    cell: Cell
    done: int
    blocks: int


@dataclass(frozen=True)
class CellDone:
    """A cell has its record, of status "ok" or "error"; `reused`: it was there already."""

    cell: Cell
    record: dict[str, Any]
    reused: bool


@dataclass(frozen=True)
class Certified:
    """So many images have their rows; `words` names model and certifier."""

    words: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """How far all workers together are; `lost` of them had to be replaced, `failed` cells are errors."""

    workers: int
    cells_done: int
    cells: int
    blocks_done: int
    blocks: int
    images_per_second: float
    lost: int
    failed: int
    seconds_left: float | None


@dataclass(frozen=True)
class Spent:
    """One more block was attacked on a budget.

    Args:
        cell, block: which.
        seconds, budget: spent, and to be spent.
        bounds: of each model label, seed, and the share that stands all attacks so far with its 95 % interval.
    """

    cell: Cell
    block: int
    seconds: float
    budget: float
    bounds: tuple[tuple[str, int, float, float, float], ...]


@dataclass(frozen=True)
class Looked:
    """All models were judged on so many test images, of all there are; what that says of each pair of them."""

    used: int
    of: int
    verdicts: tuple[Verdict, ...]


Event = SubjectReady | Waiting | TrainingStep | CellStarted | BlockDone | CellDone | Certified | Fleet | Spent | Looked
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener that listens to nothing."""
