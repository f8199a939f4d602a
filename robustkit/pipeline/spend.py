"""A bench on a budget: the planner's steps, one block at a time, each on disk before the next is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from robustkit.engine.evaluate import Arena
from robustkit.host import Host
from robustkit.pipeline.bench_models import Models
from robustkit.pipeline.blocks import attack_block
from robustkit.pipeline.certificates import contradictions
from robustkit.pipeline.describe import describe_plan, write_environment
from robustkit.pipeline.environment import environment
from robustkit.pipeline.events import Listener, Spent, ignore
from robustkit.pipeline.ledger import Ledger
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.run import Builder, run
from robustkit.pipeline.store import ModelCache, Record, RunStore
from robustkit.pipeline.subjects import TrainingFailed


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
    models = Models(plan, store, host, cache, listen, build)
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
    models.surrogates.build(plan.cells)  # trainings are no part of what is spent
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


def _buy(ledger: Ledger, models: Models, arenas: Mapping[str, Arena], listen: Listener) -> None:
    """Block after block, until nothing fits."""
    ledger.start()
    while (step := ledger.next()) is not None:
        cell, arena = ledger.cell(step), arenas[step.model]
        clean, standing = ledger.clean[step.model]["clean_pred"], ledger.standing[step.model]
        try:
            columns, notes = attack_block(
                models.surrogates.ready(cell),
                step.block,
                arena,
                ledger.plan,
                ledger.store,
                clean=clean,
                standing=standing,
            )
        except (Exception, SystemExit) as error:  # whatever an attack raises is its cell's error, never "robust"
            ledger.give_up(cell, error, models(cell.subject))
            continue
        weights = models(cell.subject).about["weights"]
        ledger.enter(step, columns, notes | {"precision": arena.precision, "weights": weights})
        listen(Spent(cell, step.block, ledger.spent, ledger.budget, ledger.bounds()))
        if ledger.due():
            ledger.publish(models)
