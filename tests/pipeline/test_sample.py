"""A bench that stops as soon as its defenses are told apart, for real on a small data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.api import result_of
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.pipeline.events import Looked, SubjectReady
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.sample import sample
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache, RunStore
from robustkit.report.footer import footer
from tests.pipeline.conftest import CALLS, Ran

Spec = Callable[..., BenchSpec]
Bench = Callable[..., Ran]
ALIKE = ("tiny.same:number=1", "tiny.same:number=2")
APART = ("tiny.same:number=1", "tiny.same:shift=1")


class Interrupted(BaseException):
    pass


@pytest.fixture
def sampled(host: Host, tmp_path: Path) -> Callable[..., Ran]:
    """Run a spec on as few images as it takes; `listen` may raise to interrupt it."""

    def ran(spec: BenchSpec, folder: str = "sampled", listen: Callable[[Any], None] = lambda event: None) -> Ran:
        plan = make_plan(spec, host)
        store = RunStore(tmp_path / folder)
        events: list[Any] = []

        def heard(event: Any) -> None:
            events.append(event)
            listen(event)

        store.open()
        try:
            records = sample(plan, store, host=host, cache=ModelCache(), listen=heard)
        finally:
            store.close()
        return Ran(plan, records, events, store)

    return ran


def told(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ran.store.directory / "environment.json").read_text())["sampling"]
    return found


def test_what_differs_much_stops_at_the_first_look(spec: Spec, bench: Bench, sampled: Bench) -> None:
    wanted = spec(defenses=APART, attacks=("fgsm", "bim:steps=3"), eps=(0.02,))
    ran = sampled(spec(defenses=APART, attacks=("fgsm", "bim:steps=3"), eps=(0.02,), precision_points=1.0))
    assert told(ran)["used"] == 200
    assert {record["dataset"]["n"] for record in ran.records} == {200}
    (verdict,) = told(ran)["verdicts"]
    assert verdict["apart"]
    assert verdict["high"] < 0
    lines = footer(ran.records, result_of(ran.store, ran.records).environment)
    assert any("200 of 450 judged: the leading model is told apart from every other, so no more" in x for x in lines)
    # each image has the verdict that the whole bench has for it
    full = bench(wanted)
    for label in ("standard", *APART):
        for attack in ("clean", "fgsm", "bim:steps=3"):
            part = ran.store.samples(ran.record(label, attack)["key"])
            whole = full.store.samples(full.record(label, attack)["key"])
            assert len(set(part["index"])) == 200
            assert part["index"].max() > 200  # not the first ones
            for name in set(part) - {"index", "forwards", "backwards", "dist_linf", "dist_l2", "dist_l1", "dist_l0"}:
                assert (part[name] == whole[name][part["index"]]).mean() >= 0.99, name  # but for rounding


def test_what_is_the_same_goes_on_to_the_width_or_the_end(spec: Spec, sampled: Bench) -> None:
    used = {}
    for points in (5.0, 2.0, 0.5):  # in the same folder: each goes on where the one before it stopped
        CALLS.clear()
        ran = sampled(spec(defenses=ALIKE, attacks=("fgsm", "tiny.draws"), baseline=False, precision_points=points))
        used[points] = told(ran)["used"]
        (verdict,) = told(ran)["verdicts"]
        assert verdict["difference"] == 0
        assert not verdict["apart"]
        assert verdict["narrow"] == (points > 0.5)
        assert ran.record(ALIKE[0], "fgsm")["dataset"]["n"] == used[points]
        assert CALLS.count("draws") == 3  # of three models one block, and what was measured stays
    assert used == {5.0: 200, 2.0: 400, 0.5: 450}
    assert not any(event.verdicts == () for event in ran.events if isinstance(event, Looked))
    lines = footer(ran.records, result_of(ran.store, ran.records).environment)
    assert any("450 of 450 judged: all there are; not every difference" in line for line in lines)


def test_an_interrupted_run_goes_on_and_a_done_one_answers_from_its_records(spec: Spec, sampled: Bench) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, Looked):
            raise Interrupted

    wanted = spec(defenses=("fgsm_at",), attacks=("fgsm", "tiny.draws"), precision_points=0.5)
    whole = sampled(wanted, "whole")
    with pytest.raises(Interrupted):
        sampled(wanted, listen=stop)
    CALLS.clear()
    rest = sampled(wanted)
    blocks = len([event for event in rest.events if isinstance(event, Looked)])
    assert CALLS.count("draws") == 2 * (blocks - 1)
    for record in rest.records:
        mine, theirs = rest.store.samples(record["key"]), whole.store.samples(record["key"])
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    CALLS.clear()
    again = sampled(wanted)
    assert CALLS == []
    assert again.records == rest.records
    assert not any(isinstance(event, SubjectReady) for event in again.events)


def test_with_a_cascade_later_attacks_see_survivors(spec: Spec, sampled: Bench) -> None:
    ran = sampled(spec(defenses=ALIKE, attacks=("fgsm", "bim:steps=3"), cascade=True, precision_points=5.0))
    first = ran.store.samples(ran.record("standard", "fgsm")["key"])
    second = ran.store.samples(ran.record("standard", "bim:steps=3")["key"])
    assert np.array_equal(second["attacked"], first["attacked"] & ~first["success"])


def test_what_fails_is_a_record_and_the_others_are_compared(spec: Spec, sampled: Bench) -> None:
    defenses = ("untrainable", "fgsm_at")
    ran = sampled(spec(defenses=defenses, attacks=("tiny.broken", "fgsm"), precision_points=9.0))
    assert ran.record("standard", "tiny.broken")["error"] == "RuntimeError: boom"
    assert ran.record("tiny.untrainable", "fgsm")["error"] == "ZeroDivisionError: no gradient here"
    assert ran.record("fgsm_at", "fgsm")["status"] == "ok"
    (verdict,) = told(ran)["verdicts"]
    assert (verdict["first"], verdict["second"]) == ("standard", "fgsm_at")


def test_seeds_of_a_defense_count_together(spec: Spec, sampled: Bench) -> None:
    ran = sampled(spec(defenses=ALIKE, attacks=("fgsm",), seeds=(0, 1), precision_points=5.0))
    (verdict,) = told(ran)["verdicts"]
    assert (verdict["first"], verdict["second"]) == ALIKE
    assert len(ran.records) == 12


def test_what_makes_no_sense_is_refused(spec: Spec, host: Host) -> None:
    for changes, words in (
        ({"defenses": ()}, "compares the robust accuracies of models"),
        ({"attacks": (), "certifiers": ()}, "compares the robust accuracies of models"),
        ({"eps": (0.1, 0.2)}, "precision_points judges one eps"),
    ):
        with pytest.raises(UsageError, match=words):
            make_plan(spec(**{"precision_points": 1.0, **changes}), host)
    for changes, words in (
        ({"budget": 60.0}, "give one of the two"),
        ({"certifiers": ("interval",)}, "certify in a bench without it"),
        ({"precision_points": 0.0}, "more than 0"),
    ):
        with pytest.raises(UsageError, match=words):
            spec(**{"precision_points": 1.0, **changes})
