"""The books of a bench on a budget: what was measured, what it cost, what it bought."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from robustkit.engine.statistics import wilson
from robustkit.pipeline.block import block_rows
from robustkit.pipeline.blocks import Notes, joined, untouched
from robustkit.pipeline.budget import Field, Step, Trial, choose, forecast
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.describe import write_environment
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.parquet import encoded
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import error_words, failed_record, metrics, now, record_of
from robustkit.pipeline.store import Columns, Record, RunStore
from robustkit.pipeline.subjects import Built

_EVERY = 30.0
"""Seconds after which the records are written again, so that the table can be read while a run goes on."""
_MINUTE = 60.0
_STEP = 2
"""Passes of an attack that has neither steps nor queries."""


class Ledger:
    """What was measured and what it cost, as the blocks on disk say it.

    An attack that failed counts for nothing: its blocks are dropped, and a later call tries it again from the start.

    Args:
        plan: of the bench.
        store: with the blocks.
        known: records of the cells that are no attacks.

    Fields:
        clean: columns of the clean cell by model; models without one are left out.
        standing: (N,) bool by model: right on the clean input, and brought down by no attack so far.
        failed: records of attacks that failed, by cell.
    """

    def __init__(self, plan: Plan, store: RunStore, known: list[Record]) -> None:
        assert plan.spec.budget is not None
        self.plan, self.store, self.budget = plan, store, plan.spec.budget
        self._known = {r["subject"]["key"]: r for r in known if r["kind"] == "clean" and r["status"] == "ok"}
        self.clean: dict[str, Columns] = {key: store.samples(r["key"]) for key, r in self._known.items()}
        self.subjects = [subject for subject in plan.subjects if subject.key in self.clean]
        self._cells = [cell for cell in plan.cells if cell.kind == "attack" and cell.subject in self.subjects]
        earlier = store.records()
        self.failed = {c.key: earlier[c.key] for c in self._cells if earlier.get(c.key, {}).get("status") == "error"}
        self._blocks: dict[str, dict[int, tuple[Columns, Notes]]] = {}
        for cell in self._cells:
            if cell.key in self.failed:
                store.forget(cell.key)
            found = {number: store.block(cell.key, number) for number in range(plan.blocks)}
            self._blocks[cell.key] = {number: block for number, block in found.items() if block is not None}
        self._lost = 0.0
        self._settle()
        self.start()

    def _settle(self) -> None:
        """Read trials and what stands off the blocks."""
        entries = [
            (notes, _trial(cell, number, columns, notes))
            for cell in self._cells
            for number, (columns, notes) in self._blocks[cell.key].items()
        ]
        self._entries = sorted(entries, key=lambda entry: entry[0]["place"])
        self.standing = {key: clean["clean_pred"] == clean["label"] for key, clean in self.clean.items()}
        for cell in self._cells:
            for number, (columns, _) in self._blocks[cell.key].items():
                self.standing[cell.subject.key][block_rows(number, self.plan)] &= ~columns["success"]

    @property
    def begun(self) -> list[Cell]:
        """Attacks of which there are blocks."""
        return [cell for cell in self._cells if self._blocks[cell.key]]

    @property
    def trials(self) -> list[Trial]:
        """In the order in which they were made."""
        return [trial for _, trial in self._entries]

    @property
    def spent(self) -> float:
        """Seconds: of what is on disk, and of what failed in this session."""
        return self._lost + sum(float(notes["spent"]) for notes, _ in self._entries)

    def start(self) -> None:
        """The clock runs from here on."""
        self._mark = self._published = time.perf_counter()

    def next(self) -> Step | None:
        """What to do with the time that is left."""
        return choose(self._field(), self.budget - self.spent)

    def cell(self, step: Step) -> Cell:
        return next(cell for cell in self._cells if cell.key == step.attack)

    def enter(self, step: Step, columns: Columns, notes: Notes) -> None:
        """One more block; on disk when this returns, with the time since the one before."""
        now = time.perf_counter()
        notes = notes | {
            "place": 1 + max((entry["place"] for entry, _ in self._entries), default=0),
            "spent": now - self._mark,
            "before": sorted(t.attack for t in self.trials if (t.model, t.block) == (step.model, step.block)),
        }
        self.store.write_block(step.attack, step.block, encoded(columns, notes))
        self._blocks[step.attack][step.block] = columns, notes
        self._entries.append((notes, _trial(self.cell(step), step.block, columns, notes)))
        self.standing[step.model][block_rows(step.block, self.plan)] &= ~columns["success"]
        self.failed.pop(step.attack, None)
        self._mark = now

    def give_up(self, cell: Cell, error: BaseException, built: Built | None) -> None:
        """An attack failed; this call does not try it again."""
        now = time.perf_counter()
        self._lost += now - self._mark + sum(notes["spent"] for _, notes in self._blocks[cell.key].values())
        self._mark = now
        self.failed[cell.key] = failed_record(cell, self.plan, built, *error_words(error))
        self.store.finish(self.failed[cell.key], None)
        self.store.forget(cell.key)
        self._cells.remove(cell)
        self._settle()

    def drop(self, subject: Subject, error: BaseException) -> None:
        """A model cannot be made any more, so that all its attacks fail."""
        for cell in [cell for cell in self._cells if cell.subject is subject]:
            self.give_up(cell, error, None)
        self.subjects.remove(subject)

    def bounds(self) -> tuple[tuple[str, int, float, float, float], ...]:
        """The share of each model that stands, with its 95 % interval."""
        found = []
        for subject in self.subjects:
            hits = int(self.standing[subject.key].sum())
            found.append((subject.label, subject.seed, hits / self.plan.count, *wilson(hits, self.plan.count)))
        return tuple(found)

    def weights(self, subject: Subject) -> set[str]:
        """Of the networks that were measured as this subject."""
        blocks = [b for cell in self._cells if cell.subject is subject for b in self._blocks[cell.key].values()]
        return {self._known[subject.key]["subject"]["weights"], *(notes["weights"] for _, notes in blocks)}

    def due(self) -> bool:
        """Whether the records were last written some time ago."""
        return time.perf_counter() - self._published > _EVERY

    def publish(self, models: Callable[[Subject], Built]) -> list[Record]:
        """Write samples and records of all that was begun, and what the budget bought."""
        records = [self._record(cell, models(cell.subject)) for cell in self.begun]
        write_environment(self.store, self.store.read_json("environment.json") | {"budget": self.summary()})
        self.store.write("tables/anytime.csv", self._anytime())
        self._published = time.perf_counter()
        return records

    def summary(self) -> dict[str, Any]:
        """What was spent, and what the next minute would probably buy, in points of robust accuracy by model."""
        found = forecast(self._field(), _MINUTE)
        labels = {cell.key: cell.label for cell in self._cells}
        models = [
            {
                "label": subject.label,
                "seed": subject.seed,
                "points": 100 * found.falls.get(subject.key, 0.0) / self.plan.count,
                "attacks": [labels[name] for name in found.attacks.get(subject.key, ())],
                "untried": [labels[name] for name in found.untried.get(subject.key, ())],
            }
            for subject in self.subjects
        ]
        return {
            "seconds": self.budget,
            "spent": self.spent,
            "blocks": len(self._entries),
            "open": found.open,
            "next": found.seconds,
            "models": models,
        }

    def _record(self, cell: Cell, built: Built) -> Record:
        clean, blocks = self.clean[cell.subject.key], self._blocks[cell.key]
        parts = []
        for number in range(self.plan.blocks):
            rest = {name: values[block_rows(number, self.plan)] for name, values in clean.items()}
            parts.append(blocks[number][0] if number in blocks else untouched(rest))
        whole, notes = joined(parts), [note for _, note in blocks.values()]
        asked = np.concatenate([np.full(len(part["label"]), n in blocks) for n, part in enumerate(parts)])
        right = whole["clean_pred"] == whole["label"]
        record = record_of(cell, self.plan, built) | {
            "cascade": True,
            "status": "ok",
            "error": None,
            "metrics": metrics(whole, cell.threat),
            "precision": notes[-1]["precision"],
            "guarantee": None,
            "seconds": round(sum(note["seconds"] for note in notes), 4),
            "restored": sorted({name for note in notes for name in note["restored"]}),
            "started": now(),
            "after": [],
            "coverage": {
                "attacked": int(whole["attacked"].sum()),
                "open": int((self.standing[cell.subject.key] & ~whole["attacked"]).sum()),
                "survivors": bool((asked & right & ~whole["attacked"]).any()),
            },
        }
        self.store.finish(record, whole)
        return record

    def _field(self) -> Field:
        count, order = self.plan.count, list(dict.fromkeys(cell.label for cell in self._cells))
        standing = {
            (subject.key, number): float(self.standing[subject.key][block_rows(number, self.plan)].sum())
            for subject in self.subjects
            for number in range(self.plan.blocks)
        }
        most = max((cell.passes for cell in self._cells if cell.passes is not None), default=_STEP)
        guesses = {
            (cell.subject.key, cell.key): _passes(cell, most) * float(self._known[cell.subject.key]["seconds"]) / count
            for cell in sorted(self._cells, key=lambda cell: order.index(cell.label))
        }
        return Field(standing, guesses, self.trials)

    def _anytime(self) -> str:
        """After every block: what was attacked, and the bound that it left."""
        names, count = {cell.key: cell for cell in self._cells}, self.plan.count
        stands = {key: int((clean["clean_pred"] == clean["label"]).sum()) for key, clean in self.clean.items()}
        lines, clock = ["seconds,defense,seed,attack,block,attacked,fell,robust,low,high"], 0.0
        for notes, trial in self._entries:
            clock += notes["spent"]
            stands[trial.model] -= trial.fell
            subject, hits = names[trial.attack].subject, stands[trial.model]
            low, high = wilson(hits, count)
            words = f'{clock:.3f},"{subject.label}",{subject.seed},"{names[trial.attack].label}",{trial.block}'
            lines.append(f"{words},{trial.attacked},{trial.fell},{hits / count!r},{low!r},{high!r}")
        return "\n".join(lines) + "\n"


def _trial(cell: Cell, number: int, columns: Columns, notes: Notes) -> Trial:
    return Trial(
        model=cell.subject.key,
        attack=cell.key,
        block=number,
        before=frozenset(notes["before"]),
        attacked=int(columns["attacked"].sum()),
        fell=int(columns["success"].sum()),
        seconds=notes["seconds"],
    )


def _passes(cell: Cell, most: int) -> int:
    """What a sample probably costs: as the parameters tell; where they leave it to the attack, as much as any."""
    if cell.passes is not None:
        return cell.passes
    assert cell.attack is not None
    return most if {"steps", "queries"} & set(cell.attack.params) else _STEP
