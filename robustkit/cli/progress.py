"""Progress of a run on stderr: a live line on a terminal, one line an event where output goes to a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from robustkit.pipeline.events import Event

_EVERY_SECONDS = 5.0


class Progress:
    """A listener for `robustkit.pipeline.run`; use it as a context manager.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._task: Any = None
        self._said = 0.0
        self._validated = ""
        self._fleet = False

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
            )
            self._live = Bars(*columns, console=Console(stderr=True), transient=True)
            self._live.start()
            self._task = self._live.add_task("starting", total=None, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from robustkit.pipeline import events

        if self._quiet:
            return
        if isinstance(event, events.TrainingStep):
            self._training(event)
        elif isinstance(event, events.Waiting):
            self._say(f"waiting for another process that trains {event.subject.label}")
        elif isinstance(event, events.SubjectReady):
            where = "from the cache" if event.cached else "trained"
            self._say(f"{event.subject.label} (seed {event.subject.seed}): {where}")
        elif isinstance(event, events.Fleet):
            self._fleet = True
            self._all_workers(event)
        elif isinstance(event, events.CellStarted | events.BlockDone) and not self._fleet:
            words = f"{event.cell.subject.label} / {event.cell.label}"
            self._show(words, event.done, event.blocks, "")
        elif isinstance(event, events.Certified) and not self._fleet:
            self._show(event.words, event.done, event.total, "")
        elif isinstance(event, events.Spent):
            self._spent(event)
        elif isinstance(event, events.Looked):
            from robustkit.report.sampling import verdict_words

            self._show("test images", event.used, event.of, "; ".join(map(verdict_words, event.verdicts)))
        elif isinstance(event, events.CellDone) and not event.reused:
            self._cell(event)

    def _training(self, event: Any) -> None:
        progress = event.progress
        told = {name: value for name, value in progress.metrics.items() if name != "collapsed"}
        words = f"training {event.subject.label}, epoch {progress.epoch}/{progress.epochs}"
        if "validation accuracy" in told:  # an epoch is done
            self._say(f"{words}: {_values(told)}")
            self._validated = _values({name: told[name] for name in told if name.startswith("validation")})
        if progress.step == progress.steps:
            self._validated = ""
        last = f", last epoch's {self._validated}" if self._validated and "validation accuracy" not in told else ""
        note = f"{progress.images_per_second:,.0f} images/s, {progress.seconds_left:.0f} s left, {_values(told)}{last}"
        self._show(words, progress.step, progress.steps, note)

    def _all_workers(self, event: Any) -> None:
        """One line for all workers, in which single cells would only take turns."""
        notes = [f"cells {event.cells_done}/{event.cells}", f"blocks {event.blocks_done:,}/{event.blocks:,}"]
        notes += [f"{event.images_per_second:,.0f} images/s"]
        notes += [f"cells failed: {event.failed}"] if event.failed else []
        notes += [f"workers lost: {event.lost}"] if event.lost else []
        notes += [] if event.seconds_left is None else [f"{_span(event.seconds_left)} left"]
        self._show(f"{event.workers} workers", event.blocks_done, event.blocks, ", ".join(notes))

    def _spent(self, event: Any) -> None:
        from robustkit.report.spending import bounds

        words = f"{event.cell.subject.label} / {event.cell.label}, {event.seconds:.0f} of {event.budget:.0f} s"
        self._show(words, event.seconds, event.budget, f"worst case at most {bounds(event.bounds)}")

    def _cell(self, event: Any) -> None:
        record = event.record
        words = f"{event.cell.subject.label} / {event.cell.label}"
        if record["status"] != "ok":
            self._say(f"{words}: error: {record['error']}")
            return
        names = ("robust_accuracy", "clean_accuracy", f"certified_accuracy@{record['threat']['eps']:g}")
        share = next(record["metrics"][name] for name in names if name in record["metrics"])
        self._say(f"{words}: {100 * share:.1f} % in {record['seconds']:.1f} s")

    def _show(self, words: str, done: float, total: float, note: str) -> None:
        if self._live is not None:
            self._live.update(self._task, description=words, completed=done, total=total, note=note)
        elif time.monotonic() - self._said > _EVERY_SECONDS:
            self._say(f"{words}: {100 * done / max(total, 1):.0f} %{', ' + note if note else ''}")

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            typer.echo(line, err=True)


def _span(seconds: float) -> str:
    """A time to come, as exactly as it is known."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _values(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
