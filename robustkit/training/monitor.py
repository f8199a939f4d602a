"""Tells how a training goes: progress to the caller, events for TensorBoard, a table of its epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from robustkit.contracts import Training, TrainingProgress
from robustkit.training.history import NAME, History

_EVERY_SECONDS = 0.2

Metrics = Mapping[str, float]


class Monitor:
    """Reports at most five times a second, and at the end of every epoch.

    Args:
        training: says to whom and where; without a directory no events are written.
        epochs, steps: of the whole training.
        batch_size: images a step.
        step: where this process begins.
    """

    def __init__(self, training: Training, *, epochs: int, steps: int, batch_size: int, step: int) -> None:
        self._training = training
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._first = step
        self._began = time.perf_counter()
        self._reported = 0.0
        self._epoch_began = self._began
        self._events: Any = None
        self._history: History | None = None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()

    def stepped(self, epoch: int, step: int, metrics: Callable[[], Metrics]) -> None:
        """After an update; `metrics` of the epoch so far are asked for only where they are told."""
        if self._training.report is not None and time.perf_counter() - self._reported >= _EVERY_SECONDS:
            self._report(epoch, step, metrics())

    def epoch_done(self, epoch: int, step: int, metrics: Metrics, rate: float) -> None:
        """After an epoch, with its metrics and its last learning rate."""
        if self._training.directory is not None:
            self._log(epoch, step, {**metrics, "learning rate": rate})
        if self._training.report is not None:
            self._report(epoch, step, metrics)

    def _report(self, epoch: int, step: int, metrics: Metrics) -> None:
        assert self._training.report is not None
        self._reported = time.perf_counter()
        pace = (step - self._first) / max(self._reported - self._began, 1e-9)  # steps a second
        progress = TrainingProgress(
            epoch=epoch,
            epochs=self._epochs,
            step=step,
            steps=self._steps,
            images_per_second=pace * self._batch_size,
            seconds_left=(self._steps - step) / max(pace, 1e-9),
            metrics=dict(metrics),
        )
        self._training.report(progress)

    def _log(self, epoch: int, step: int, metrics: Metrics) -> None:
        """One event a metric and epoch; those of an epoch that is repeated after a kill replace the old ones."""
        assert self._training.directory is not None
        if self._events is None or self._history is None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self._training.directory / "tensorboard"), purge_step=epoch)
            self._history = History(self._training.directory / NAME, epoch - 1)
        now = time.perf_counter()
        self._history.add({**metrics, "epoch": epoch, "step": step, "seconds": now - self._epoch_began})
        self._epoch_began = now
        for name, value in metrics.items():
            self._events.add_scalar(name.replace(" ", "_"), value, epoch)
        self._events.flush()
