"""Certifiers as cells of a bench, and certificates held against attacks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robustkit.engine.certify import certified
from robustkit.params import UsageError
from robustkit.pipeline.spec import BenchSpec
from robustkit.report.footer import footer
from robustkit.report.format import readable
from robustkit.tables import comparison
from tests.pipeline.conftest import CALLS, Ran

Spec = Callable[..., BenchSpec]
Bench = Callable[..., Ran]
EXACT = ("linear_exact", "fgsm")


def test_clean_robust_certified_in_one_table(spec: Spec, bench: Bench) -> None:
    """On a linear network the exact attack and the exact certificate leave nothing between them but the box."""
    ran = bench(spec(attacks=EXACT, certifiers=("linear", "interval", "crown_ibp"), eps=(0.02, 0.1)))
    assert {record["status"] for record in ran.records} == {"ok"}
    table = comparison(ran.records, ran.store.samples)
    for _, row in table.iterrows():
        for eps in ("0.02", "0.1"):
            exact = row[f"certified linear @ {eps}"]
            assert row["clean"] >= row[f"worst case @ {eps}"] >= exact
            assert row[f"worst case @ {eps}"] >= row[f"certified interval @ {eps}"]  # that one sees the box
            assert (
                row[f"worst case @ {eps}"] >= row[f"certified crown_ibp @ {eps}"] >= row[f"certified interval @ {eps}"]
            )
            assert row[f"worst case @ {eps}"] - exact < 0.05
    assert min(row["certified linear @ 0.02"], row["certified interval @ 0.02"]) > 0.3
    shown = readable(table, ran.records)
    assert "certified linear @ 0.1" in shown.columns
    assert any("no attack broke a promise" in line for line in footer(ran.records, {}))


def test_rows_are_kept_and_nothing_is_done_twice(spec: Spec, bench: Bench) -> None:
    wanted = spec(attacks=(), defenses=(), certifiers=("smoothing:sigma=0.2:n=200", "tiny.unsure"), limit=250)
    ran = bench(wanted)
    record = ran.record("standard", "smoothing:sigma=0.2:n=200:norm=linf")
    assert record["kind"] == "certify"
    assert record["metrics"]["count"] == 250
    rows = ran.store.samples(record["key"])
    assert {"index", "label", "prediction", "radius", "hits", "n", "looks", "passes", "seconds"} <= set(rows)
    assert record["metrics"]["certified_accuracy@0.1"] == pytest.approx(certified(rows, 0.1).mean())
    assert CALLS == ["liar", "liar"]
    again = bench(wanted)
    assert CALLS == ["liar", "liar"]
    assert again.records == ran.records
    other = bench(wanted, folder="other")
    assert np.array_equal(other.store.samples(record["key"])["hits"], rows["hits"])


def test_a_broken_promise_is_an_error(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(attacks=("fgsm",), defenses=(), certifiers=("tiny.liar", "linear")))
    broken = ran.record("standard", "tiny.liar")
    assert broken["status"] == "error"
    assert "promised what fgsm contradicts" in broken["error"]
    assert ran.record("standard", "linear")["status"] == "ok"
    table = comparison(ran.records, ran.store.samples)
    assert table["certified tiny.liar"].isna().all()
    assert "failed" in table["status"][0]


def test_an_attack_that_comes_later_is_held_against_old_certificates(spec: Spec, bench: Bench) -> None:
    calm = bench(spec(attacks=(), defenses=(), certifiers=("tiny.liar",)))
    assert calm.records[-1]["status"] == "ok"
    late = bench(spec(attacks=("fgsm",), defenses=(), certifiers=("tiny.liar",)))
    assert late.record("standard", "tiny.liar")["status"] == "error"


def test_chance_promises_of_another_network_are_not_compared(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(attacks=("fgsm",), defenses=(), certifiers=("tiny.unsure",)))
    assert ran.record("standard", "tiny.unsure")["status"] == "ok"


def test_the_norm_is_the_benchs(spec: Spec, bench: Bench) -> None:
    with pytest.raises(UsageError, match="threat model is the bench's"):
        bench(spec(certifiers=("linear:norm=l2",)))
    with pytest.raises(UsageError, match="certifies in linf, the bench is in l2"):
        bench(spec(certifiers=("interval",), norm="l2"))


def test_a_certifier_that_fails_is_a_record(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(model="cnn", dataset="mnist_10k", defenses=(), attacks=(), certifiers=("linear",), limit=20))
    assert "affine" in ran.records[-1]["error"]
