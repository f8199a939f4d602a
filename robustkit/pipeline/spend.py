"""A bench on a budget: the planner's steps, one block at a time, each on disk before the next is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from robustkit.engine.evaluate import Arena
from robustkit.host import Host
from robustkit.pipeline.blocks import attack_block
from robustkit.pipeline.certificates import contradictions
from robustkit.pipeline.environment import environment
from robustkit.pipeline.events import Listener, Spent, SubjectReady, TrainingStep, Waiting, ignore
from robustkit.pipeline.ledger import Ledger
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.run import Builder, describe_plan, run, search_precision, write_environment
from robustkit.pipeline.store import ModelCache, Record, RunStore
from robustkit.pipeline.subjects import Built, TrainingFailed, build_subject


def spend(
    plan: Plan,
    store: RunStore,
    *,
    host: Host,
    cache: ModelCache,
    listen: Listener = ignore,
    build: Builder | None = None,
) -> list[Record]:
    """Measure what a budget of attacks pays for, where it lowers the upper bound on robust accuracy most.

    Models, clean predictions with their red flags, and certifiers come first and are not counted. Then
    `robustkit.pipeline.budget` chooses block after block; an attack is tried on what stands there. What is not
    attacked counts as standing, so that every robust accuracy is an upper bound on all samples.

    The budget is of the run directory: interrupted, the same call goes on with what is left, a larger budget goes on
    from there, and once it is spent the records answer. At most the block at work is lost. No block is begun that is
    expected to take longer than is left, so that the time is kept to within one block's.

    Args:
        plan: with `spec.budget`.
        store, host, cache, listen, build: as for `robustkit.pipeline.run.run`.

    Returns:
        One record a cell that was begun, in the plan's order; those of attacks hold a field "coverage": samples
        attacked, open (standing, and not tried), and whether only survivors were tried.
    """
    models = _Models(plan, store, host, cache, listen, build)
    base = [cell for cell in plan.cells if cell.kind != "attack"]
    known = run(
        dataclasses.replace(plan, cells=tuple(base)), store, host=host, cache=cache, listen=listen, build=models
    )
    describe_plan(plan, store)
    ledger = Ledger(plan, store, known)
    told = store.read_json("environment.json").get("budget", {})
    if ledger.next() is None and told.get("blocks") == len(ledger.trials):
        write_environment(store, store.read_json("environment.json") | {"budget": ledger.summary()})
        stored = store.records()
        return store.in_order([*known, *(stored[cell.key] for cell in ledger.begun), *ledger.failed.values()])
    stale = []
    for subject in list(ledger.subjects):
        try:
            if not models.ready(subject, ledger.weights(subject)):
                stale += [cell for cell in plan.cells if cell.subject is subject]
        except TrainingFailed as failure:  # the other subjects go on
            ledger.drop(subject, failure.__cause__ or failure)
    if stale:
        for cell in stale:
            store.forget(cell.key)
        return spend(plan, store, host=host, cache=cache, listen=listen, build=models)
    write_environment(store, store.read_json("environment.json") | environment(plan.device))
    arenas = {subject.key: models.arena(subject) for subject in ledger.subjects}
    try:
        _buy(ledger, models, arenas, listen)
    finally:
        records = ledger.publish(models)
    every = [*known, *records, *ledger.failed.values()]
    for key, error in contradictions(every, store).items():
        broken = next(record for record in every if record["key"] == key)
        broken |= {"status": "error", "error": error, "metrics": {}}
        store.finish(broken, None)
    return store.in_order(every)


def _buy(ledger: Ledger, models: _Models, arenas: Mapping[str, Arena], listen: Listener) -> None:
    """Block after block, until nothing fits."""
    ledger.start()
    while (step := ledger.next()) is not None:
        cell, arena = ledger.cell(step), arenas[step.model]
        clean, standing = ledger.clean[step.model]["clean_pred"], ledger.standing[step.model]
        try:
            columns, notes = attack_block(
                cell, step.block, arena, ledger.plan, ledger.store, clean=clean, standing=standing
            )
        except (Exception, SystemExit) as error:  # whatever an attack raises is its cell's error, never "robust"
            ledger.give_up(cell, error, models(cell.subject))
            continue
        weights = models(cell.subject).about["weights"]
        ledger.enter(step, columns, notes | {"precision": arena.precision, "weights": weights})
        listen(Spent(cell, step.block, ledger.spent, ledger.budget, ledger.bounds()))
        if ledger.due():
            ledger.publish(models)


class _Models:
    """Subjects, each made once and kept."""

    def __init__(
        self, plan: Plan, store: RunStore, host: Host, cache: ModelCache, listen: Listener, build: Builder | None
    ) -> None:
        self._plan, self._store, self._listen = plan, store, listen
        self._host, self._cache, self._build = host, cache, build
        self._made: dict[str, Built] = {}

    def __call__(self, subject: Subject) -> Built:
        """The model, trained or loaded where it is not at hand."""
        if subject.key not in self._made:
            self._made[subject.key] = self._build(subject) if self._build is not None else self._trained(subject)
        return self._made[subject.key]

    def _trained(self, subject: Subject) -> Built:
        return build_subject(
            subject,
            self._plan,
            self._host,
            self._cache,
            self._store.directory,
            report=lambda progress: self._listen(TrainingStep(subject, progress)),
            waiting=lambda: self._listen(Waiting(subject)),
        )

    def ready(self, subject: Subject, measured: set[str]) -> bool:
        """Make the model; False where what was `measured` is of other weights, and it was trained again since.

        Raises:
            TrainingFailed: it cannot be trained again.
        """
        fresh = subject.key not in self._made
        built = self(subject)
        if fresh:
            self._listen(SubjectReady(subject, built.cached))
        return measured <= {built.about["weights"]}

    def arena(self, subject: Subject) -> Arena:
        """The model, ready to be attacked."""
        example, _ = self._plan.data.test.batch(torch.arange(min(64, self._plan.count)))
        example, built = example.to(self._plan.device), self(subject)
        precision = search_precision(built, self._plan, self._store, example)
        return Arena(built.model, precision, self._plan.spec.batch_size, example)
