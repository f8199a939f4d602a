"""Networks that attacks make their examples on, trained or loaded once a run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from robustkit.engine.batching import Chunked
from robustkit.engine.verdict import CellError
from robustkit.host import Host
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.events import Listener, ignore
from robustkit.pipeline.lineup import Subject, provenance
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import ModelCache
from robustkit.pipeline.subjects import TrainingFailed
from robustkit.pipeline.told import build_told

Ready = Callable[[Cell], Cell]
"""A cell whose attack is ready to be called."""


class Surrogates:
    """The surrogates of a run, each built when it is first asked for."""

    def __init__(
        self, plan: Plan, host: Host, cache: ModelCache, directory: Path | None, listen: Listener = ignore
    ) -> None:
        self._plan, self._host, self._cache, self._directory, self._listen = plan, host, cache, directory, listen
        self._built: dict[str, nn.Module] = {}

    def build(self, cells: Iterable[Cell]) -> None:
        """Train, or load, what these cells want; one that can't be is the error of the cells that want it, later."""
        for surrogate in {cell.surrogate.key: cell.surrogate for cell in cells if cell.surrogate is not None}.values():
            with contextlib.suppress(CellError):
                self._network(surrogate)

    def ready(self, cell: Cell) -> Cell:
        """A cell whose attack has its surrogate, where it wants one.

        Raises:
            CellError: the surrogate could not be trained.
            UsageError: weights do not fit.
        """
        if cell.surrogate is None or cell.attack is None:
            return cell
        value = cell.attack.value.on(self._network(cell.surrogate))
        return dataclasses.replace(cell, attack=dataclasses.replace(cell.attack, value=value))

    def _network(self, surrogate: Subject) -> nn.Module:
        if surrogate.key not in self._built:
            self._built[surrogate.key] = self._build(surrogate)
        return self._built[surrogate.key]

    def _build(self, surrogate: Subject) -> nn.Module:
        plan = self._plan
        about = {} if surrogate.checkpoint is None else provenance(surrogate.checkpoint)
        if "model" in about:
            data = dataclasses.replace(plan.data, mean=tuple(about["mean"]), std=tuple(about["std"]))
            plan = dataclasses.replace(plan, spec=dataclasses.replace(plan.spec, model=about["model"]), data=data)
        try:
            built = build_told(surrogate, plan, self._host, self._cache, self._directory, self._listen)
        except TrainingFailed as failure:
            cause = failure.__cause__ or failure
            raise CellError(f"the surrogate {surrogate.label} could not be trained: {cause}") from failure
        return Chunked(built.model.requires_grad_(False), plan.spec.batch_size).eval()
