"""A bench on as few test images as it takes: blocks in random order, all models on each, until they are told apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from robustkit.contracts import Split
from robustkit.engine.evaluate import Arena
from robustkit.host import Host
from robustkit.pipeline.bench_models import Models
from robustkit.pipeline.block import block_rows
from robustkit.pipeline.blocks import Notes, attack_block, clean_block, joined
from robustkit.pipeline.cells import ORDER, Cell
from robustkit.pipeline.describe import describe_plan, write_environment
from robustkit.pipeline.environment import environment
from robustkit.pipeline.events import Listener, Looked, ignore
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.looks import Pairs, Verdict, look, settled, verdicts
from robustkit.pipeline.parquet import encoded
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.records import error_words, failed_record, now, whole_record
from robustkit.pipeline.run import Builder
from robustkit.pipeline.store import Columns, ModelCache, Record, RunStore
from robustkit.pipeline.subjects import TrainingFailed


def sample(
    plan: Plan,
    store: RunStore,
    *,
    host: Host,
    cache: ModelCache,
    listen: Listener = ignore,
    build: Builder | None = None,
) -> list[Record]:
    """Measure all models on block after block of test images, until `robustkit.pipeline.looks` has enough.

    Images are judged in a random order, the same in every run, so that a sorted test set does no harm; the limits are
    of the difference in robust accuracy on the distribution that the test set was drawn from. Defenses are compared
    with each other; where there are fewer than two, with the undefended model. Interrupted, or asked for more
    precision, the same call goes on from the blocks that it has.

    Args:
        plan: with `spec.precision_points`.
        store, host, cache, listen, build: as for `robustkit.pipeline.run.run`.

    Returns:
        One record a cell, in the plan's order, over the images that were judged.
    """
    models = Models(plan, store, host, cache, listen, build)
    describe_plan(plan, store)
    sampling = _Sampling(plan, store, models)
    try:
        sampling.run(listen)
        records = sampling.records()
    except _Stale as stale:  # trained again, with other weights
        for cell in plan.cells:
            if cell.subject is stale.subject:
                store.forget(cell.key)
        return sample(plan, store, host=host, cache=cache, listen=listen, build=models)
    return store.in_order(records)


class _Stale(Exception):
    def __init__(self, subject: Subject) -> None:
        self.subject = subject


class Shuffled:
    """The first images of a split in another order."""

    def __init__(self, split: Split, order: Tensor) -> None:
        self._split, self._order = split, order

    def __len__(self) -> int:
        return len(self._order)

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""
        return self._split.labels[self._order]

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels at places of the new order."""
        return self._split.batch(self._order[index])


class _Sampling:
    """The blocks of all cells so far, and the limits that came of them."""

    def __init__(self, plan: Plan, store: RunStore, models: Models) -> None:
        order = torch.randperm(plan.count, generator=torch.Generator().manual_seed(ORDER))
        data = dataclasses.replace(
            plan.data, test=Shuffled(plan.data.test, order), fingerprint=f"{plan.data.fingerprint}, order {ORDER}"
        )
        self._order = order.numpy()
        self._plan, self._store, self._models = dataclasses.replace(plan, data=data), store, models
        self._cells = list(plan.cells)
        self._blocks: dict[str, list[tuple[Columns, Notes]]] = {cell.key: [] for cell in plan.cells}
        self._arenas: dict[str, Arena] = {}
        self._failed: dict[str, Record] = {}
        self._verdicts: list[Verdict] = []

    def run(self, listen: Listener) -> None:
        """Block after block, until what was asked is known or no image is left."""
        assert self._plan.spec.precision_points is not None
        limits: Pairs = {}
        for number in range(self._plan.blocks):
            failed = len(self._failed)
            for cell in list(self._cells):
                if cell in self._cells:  # a model that cannot be made takes all its cells with it
                    self._measure(cell, number)
            if len(self._failed) > failed:  # the worst case is another from here on, also of earlier blocks
                limits = {}
                for earlier in range(number):
                    limits = look(self._standing(earlier + 1), limits)
            standing = self._standing(number + 1)
            limits = look(standing, limits)
            self._verdicts = verdicts(standing, limits, self._plan.spec.precision_points) if standing else []
            listen(Looked(block_rows(number, self._plan).stop, self._plan.count, tuple(self._verdicts)))
            if self._verdicts and settled(self._verdicts):
                return

    def records(self) -> list[Record]:
        """One a cell; what is on disk already is not written again."""
        used = min(sum(len(block[0]["label"]) for block in blocks) for blocks in self._done()) if self._cells else 0
        self._tell(used)
        known, found = self._store.records(), list(self._failed.values())
        for cell in self._cells:
            stored = known.get(cell.key)
            mark = {"used": used, "of": self._plan.count}
            if stored is not None and stored.get("sampled") == mark and self._store.has_samples(cell.key):
                found.append(stored)
            else:
                found.append(self._record(cell, used, mark))
        return found

    def _done(self) -> list[list[tuple[Columns, Notes]]]:
        return [self._blocks[cell.key] for cell in self._cells]

    def _measure(self, cell: Cell, number: int) -> None:
        """One block of one cell, from disk where it was measured before."""
        known = self._store.block(cell.key, number)
        if known is None:
            try:
                known = self._measured(cell, number)
            except TrainingFailed as failure:  # the other models go on
                for mine in [other for other in self._cells if other.subject is cell.subject]:
                    self._give_up(mine, failure.__cause__ or failure)
                return
            except _Stale:
                raise
            except (Exception, SystemExit) as error:  # its cell's error, never "robust"
                without = [other for other in self._cells if other.subject is cell.subject]
                for mine in without if cell.kind == "clean" else [cell]:  # nothing is known of a model without it
                    self._give_up(mine, error)
                return
        self._blocks[cell.key].append(known)

    def _measured(self, cell: Cell, number: int) -> tuple[Columns, Notes]:
        arena = self._arena(cell.subject)
        weights = self._models(cell.subject).about["weights"]
        part = block_rows(number, self._plan)
        if cell.kind == "clean":
            columns, notes = clean_block(cell, number, arena, self._plan)
        else:
            clean = np.full(self._plan.count, -1, dtype=np.int64)
            clean[part] = self._clean(cell.subject)[number][0]["clean_pred"]
            standing = np.ones(self._plan.count, dtype=bool)
            for earlier in self._cells[: self._cells.index(cell)] if self._plan.spec.cascade else []:
                if earlier.subject is cell.subject and earlier.kind == "attack":
                    standing[part] &= ~self._blocks[earlier.key][number][0]["success"]
            columns, notes = attack_block(
                self._models.surrogates.ready(cell),
                number,
                arena,
                self._plan,
                self._store,
                clean=clean,
                standing=standing,
            )
        columns["index"] = self._order[part]
        notes |= {"weights": weights, "precision": arena.precision}
        self._store.write_block(cell.key, number, encoded(columns, notes))
        return columns, notes

    def _arena(self, subject: Subject) -> Arena:
        if subject.key not in self._arenas:
            blocks = [block for cell in self._cells if cell.subject is subject for block in self._blocks[cell.key]]
            if not self._models.ready(subject, {notes["weights"] for _, notes in blocks}):
                raise _Stale(subject)
            write_environment(self._store, self._store.read_json("environment.json") | environment(self._plan.device))
            self._arenas[subject.key] = self._models.arena(subject)
        return self._arenas[subject.key]

    def _clean(self, subject: Subject) -> list[tuple[Columns, Notes]]:
        return self._blocks[next(c.key for c in self._cells if c.subject is subject and c.kind == "clean")]

    def _give_up(self, cell: Cell, error: BaseException) -> None:
        """A cell that failed counts for nothing, and is not tried again by this call."""
        built = self._models(cell.subject) if cell.subject.key in self._arenas else None
        self._failed[cell.key] = failed_record(cell, self._plan, built, *error_words(error))
        self._store.finish(self._failed[cell.key], None)
        self._store.forget(cell.key)
        self._cells.remove(cell)

    def _standing(self, blocks: int) -> dict[str, np.ndarray]:
        """By label of those compared, (N,): the share of its seeds that is right under every attack."""
        found: dict[str, list[np.ndarray]] = {}
        roles: dict[str, str] = {}
        for subject in self._plan.subjects:
            mine = [cell for cell in self._cells if cell.subject is subject]
            if not any(cell.kind == "attack" for cell in mine) or not any(cell.kind == "clean" for cell in mine):
                continue
            clean = joined([columns for columns, _ in self._clean(subject)[:blocks]])
            stands = clean["clean_pred"] == clean["label"]
            for cell in mine:
                if cell.kind == "attack":
                    stands &= ~joined([columns for columns, _ in self._blocks[cell.key][:blocks]])["success"]
            found.setdefault(subject.label, []).append(stands)
            roles[subject.label] = subject.role
        means = {label: np.mean(rows, axis=0) for label, rows in found.items()}
        defenses = {label: values for label, values in means.items() if roles[label] != "baseline"}
        return defenses if len(defenses) > 1 else means

    def _tell(self, used: int) -> None:
        told = {
            "used": used,
            "of": self._plan.count,
            "points": self._plan.spec.precision_points,
            "verdicts": [dataclasses.asdict(verdict) for verdict in self._verdicts],
        }
        write_environment(self._store, self._store.read_json("environment.json") | {"sampling": told})

    def _record(self, cell: Cell, used: int, mark: dict[str, int]) -> Record:
        self._arena(cell.subject)  # the model is at hand, and the one that was measured
        blocks, plan = self._blocks[cell.key], dataclasses.replace(self._plan, count=used)
        precision = blocks[0][1]["precision"]
        record, whole = whole_record(cell, plan, self._models(cell.subject), precision, now(), blocks)
        record |= {"sampled": mark}
        self._store.finish(record, whole)
        return record
