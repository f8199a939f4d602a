"""A bench on a budget, on networks small enough that a budget of seconds is ample."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustkit.api import result_of
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.pipeline.events import Spent, TrainingStep
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.portfolio import portfolio
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.spend import spend
from robustkit.pipeline.store import ModelCache, RunStore
from robustkit.report.footer import footer
from robustkit.report.format import readable
from robustkit.report.spending import spending
from robustkit.tables import comparison
from tests.pipeline.conftest import CALLS, Ran

Spec = Callable[..., BenchSpec]
Bench = Callable[..., Ran]
SAME = ("fgsm", "bim:steps=5", "mifgsm:steps=10", "linear_exact")
"""Attacks without random draws: what they bring down does not depend on the company."""


class Interrupted(BaseException):
    pass


@pytest.fixture
def spending_run(host: Host, tmp_path: Path) -> Callable[..., Ran]:
    """Run a spec on its budget; `listen` may raise to interrupt it."""

    def ran(spec: BenchSpec, folder: str = "spent", listen: Callable[[Any], None] = lambda event: None) -> Ran:
        plan = make_plan(spec, host)
        store = RunStore(tmp_path / folder)
        events: list[Any] = []

        def heard(event: Any) -> None:
            events.append(event)
            listen(event)

        store.open()
        try:
            records = spend(plan, store, host=host, cache=ModelCache(), listen=heard)
        finally:
            store.close()
        return Ran(plan, records, events, store)

    return ran


def table(ran: Ran) -> pd.DataFrame:
    return comparison(ran.records, ran.store.samples).set_index("defense")


def test_an_ample_budget_ends_where_the_full_bench_does(spec: Spec, bench: Bench, spending_run: Bench) -> None:
    full = table(bench(spec(attacks=SAME)))
    ran = spending_run(spec(attacks=SAME, budget=120.0))
    mine = table(ran)
    assert mine["worst case"].to_dict() == full["worst case"].to_dict()
    assert mine["clean"].to_dict() == full["clean"].to_dict()
    tried = [event for event in ran.events if isinstance(event, Spent)]
    assert len({(event.cell.key, event.block) for event in tried}) == len(tried)
    for record in ran.records:
        if record["kind"] == "attack":
            assert record["coverage"]["open"] == 0
    # each bound on the way is at least that of the full bench, and none is higher than the one before
    for label in full.index:
        way = [share for event in tried for name, _, share, *_ in event.bounds if name == label]
        assert way == sorted(way, reverse=True)
        assert way[-1] == full.loc[label, "worst case"]
    last = spending(ran.records, result_of(ran.store, ran.records).environment)[-1]
    assert last == "More time would buy nothing: every attack was tried on everything that stands."


def test_survivors_alone_are_attacked(spec: Spec, spending_run: Bench) -> None:
    ran = spending_run(spec(attacks=SAME, budget=120.0))
    order = [event for event in ran.events if isinstance(event, Spent)]
    for label in ("standard", "fgsm_at"):
        fallen = np.zeros(450, dtype=bool)
        clean = ran.store.samples(ran.record(label, "clean")["key"])
        right = clean["clean_pred"] == clean["label"]
        for event in order:
            if event.cell.subject.label == label:
                columns = ran.store.samples(event.cell.key)
                part = slice(200 * event.block, 200 * event.block + 200)
                assert np.array_equal(columns["attacked"][part], (right & ~fallen)[part])
                fallen[part] |= columns["success"][part]
        assert table(ran).loc[label, "worst case"] == (right & ~fallen).mean()


def test_a_small_budget_ends_in_time_and_stays_an_upper_bound(spec: Spec, bench: Bench, spending_run: Bench) -> None:
    full = table(bench(spec(attacks=SAME)))
    long = "square:queries=100000:restarts=1"
    spending_run(spec(attacks=("fgsm",), budget=60.0), "models")  # trained, and in the cache
    began = time.perf_counter()
    ran = spending_run(spec(attacks=(*SAME, long), budget=2.0))
    wall = time.perf_counter() - began
    told = json.loads((ran.store.directory / "environment.json").read_text())["budget"]
    blocks = [ran.store.block(record["key"], n) for record in ran.records for n in range(3)]
    longest = max(block[1]["spent"] for block in blocks if block is not None and "spent" in block[1])
    assert told["spent"] <= 2.0 + longest
    assert wall <= told["spent"] + 20  # clean predictions and red flags are not counted
    mine = table(ran)
    for label in full.index:
        assert full.loc[label, "worst case"] <= mine.loc[label, "worst case"] <= mine.loc[label, "clean"]


def test_an_interrupted_run_tells_what_is_incomplete_and_goes_on(
    spec: Spec, spending_run: Bench, tmp_path: Path
) -> None:
    seen: list[Spent] = []

    def stop(event: Any) -> None:
        if isinstance(event, Spent):
            seen.append(event)
            if len(seen) == 7:
                raise Interrupted

    wanted = spec(attacks=SAME, budget=120.0)
    whole = table(spending_run(wanted, "whole"))
    with pytest.raises(Interrupted):
        spending_run(wanted, "torn", listen=stop)
    store = RunStore(tmp_path / "torn")
    torn = result_of(store, store.in_order(store.records().values()))
    lines = footer(torn.records, torn.environment)
    assert any("(incomplete)" in line for line in lines)
    assert any(line.startswith("The next minute would probably lower") for line in lines)
    covered = [record for record in torn.records if record.get("coverage", {}).get("open")]
    assert covered
    for record in covered:
        shown = readable(torn.table, torn.records).set_index("defense")
        tried, left = record["coverage"]["attacked"], record["coverage"]["open"]
        cell = shown.loc[record["subject"]["label"], record["component"]["label"]]
        assert cell.endswith(f" ({tried}/{tried + left})")
        row = torn.table.set_index("defense").loc[record["subject"]["label"]]
        assert row[f"{record['component']['label']} open"] == left
    rest = spending_run(wanted, "torn")
    again = [event for event in rest.events if isinstance(event, Spent)]
    before = {(event.cell.key, event.block) for event in seen}
    assert not before & {(event.cell.key, event.block) for event in again}
    assert table(rest)["worst case"].to_dict() == whole["worst case"].to_dict()
    anytime = pd.read_csv(tmp_path / "torn" / "tables" / "anytime.csv")
    assert len(anytime) == len(before) + len(again)
    assert anytime["seconds"].is_monotonic_increasing
    assert anytime.groupby("defense")["robust"].last().to_dict() == whole["worst case"].to_dict()
    for event in seen:  # the same bounds that were told on the way
        row = anytime.iloc[seen.index(event)]
        told = {label: share for label, _, share, *_ in event.bounds}
        assert told[row["defense"]] == row["robust"]


def test_a_second_call_answers_from_the_records(spec: Spec, spending_run: Bench) -> None:
    first = spending_run(spec(attacks=("tiny.draws", "fgsm"), budget=120.0))
    written = (first.store.directory / "records.jsonl").read_bytes()
    CALLS.clear()
    second = spending_run(spec(attacks=("tiny.draws", "fgsm"), budget=120.0))
    assert CALLS == []
    assert second.records == first.records
    assert (first.store.directory / "records.jsonl").read_bytes() == written
    assert not any(isinstance(event, Spent | TrainingStep) for event in second.events)
    longer = spending_run(spec(attacks=("tiny.draws", "fgsm"), budget=240.0))
    assert CALLS == []  # nothing is left to buy
    told = json.loads((longer.store.directory / "environment.json").read_text())["budget"]
    assert told["seconds"] == 240.0


def test_a_failed_attack_is_a_record_and_the_others_go_on(spec: Spec, spending_run: Bench) -> None:
    for _ in range(2):
        CALLS.clear()
        ran = spending_run(spec(attacks=("tiny.broken", *SAME), defenses=(), budget=120.0))
        assert CALLS == ["broken"]  # once a call
        assert ran.record("standard", "tiny.broken")["error"] == "RuntimeError: boom"
        assert ran.record("standard", "linear_exact")["coverage"]["open"] == 0
        assert "error in standard / tiny.broken: RuntimeError: boom" in footer(ran.records, {})


def test_models_that_were_trained_again_are_measured_again(spec: Spec, spending_run: Bench) -> None:
    wanted = spec(attacks=("fgsm", "linear_exact"), defenses=(), budget=120.0)
    first = spending_run(wanted)
    other = "0" * 64  # as if trained elsewhere
    for record in first.records:
        changed = {**record, "subject": {**record["subject"], "weights": other}}
        first.store.finish(changed, None)
    second = spending_run(spec(attacks=("fgsm", "linear_exact", "bim"), defenses=(), budget=120.0))
    weights = {record["subject"]["weights"] for record in second.records}
    assert len(weights) == 1
    assert other not in weights


def test_a_minimal_distance_counts_at_the_eps_of_the_bench(spec: Spec, bench: Bench, spending_run: Bench) -> None:
    full = table(bench(spec(attacks=("fgsm", "tiny.nearest"), defenses=())))
    mine = table(spending_run(spec(attacks=("fgsm", "tiny.nearest"), defenses=(), budget=120.0)))
    assert mine["worst case"].to_dict() == full["worst case"].to_dict()


def test_certifiers_are_measured_as_ever(spec: Spec, spending_run: Bench) -> None:
    ran = spending_run(spec(attacks=("fgsm",), certifiers=("interval",), defenses=(), budget=60.0))
    assert ran.record("standard", "interval")["status"] == "ok"
    liar = spending_run(spec(attacks=("fgsm",), certifiers=("tiny.liar",), defenses=(), budget=60.0), "liar")
    assert "there is an error in one of the two" in liar.record("standard", "tiny.liar")["error"]


def test_without_attacks_there_is_a_portfolio(spec: Spec, host: Host) -> None:
    plan = make_plan(spec(attacks=(), budget=60.0), host)
    assert plan.spec.attacks == portfolio("linf", 3)
    assert "apgd:loss=margin" in plan.spec.attacks
    again = make_plan(BenchSpec.from_plain(plan.spec.to_plain(), "again"), host)
    assert again.key == plan.key
    for norm in ("linf", "l2", "l1", "l0"):
        for classes in (2, 3, 10):
            for text in portfolio(norm, classes):
                assert norm in host.build("attack", text).entry.norms


def test_a_budget_must_be_a_time_and_judges_one_eps(spec: Spec, host: Host) -> None:
    for text, seconds in (("90s", 90.0), ("10m", 600.0), ("1h30m", 5400.0), (45, 45.0), ("2.5", 2.5)):
        assert BenchSpec.from_plain({"budget": text}, "bench").budget == seconds
    for bad in ("soon", "", "-3", 0, True, "10 m m"):
        with pytest.raises(UsageError, match="is no duration above 0; write e"):
            BenchSpec.from_plain({"budget": bad}, "bench")
    with pytest.raises(UsageError, match="budget judges one eps"):
        make_plan(spec(eps=(0.05, 0.1), budget=60.0), host)
