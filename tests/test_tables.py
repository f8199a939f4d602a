from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.engine.statistics import wilson
from robustkit.tables import attack_columns, over_seeds, tidy
from tests.conftest import RIGHT, Bench, N


def test_shares_intervals_and_the_worst_case_sample_by_sample() -> None:
    bench = Bench().clean("a").attack("a", "fgsm", [0, 1]).attack("a", "pgd", [1, 2, 3])
    (row,) = bench.table().to_dict("records")
    assert row["clean"] == 6 / 8
    assert (row["fgsm"], row["pgd"]) == (4 / 8, 3 / 8)
    # 0, 1, 2, 3 fall to one or the other; 6 and 7 were wrong from the start
    assert row["worst case"] == 2 / 8
    for name, hits in (("clean", 6), ("fgsm", 4), ("pgd", 3), ("worst case", 2)):
        assert (row[f"{name} low"], row[f"{name} high"]) == wilson(hits, N)
    assert row["success rate"] == pytest.approx(4 / 6)
    assert (row["passes"], row["violations"], row["seconds"], row["training seconds"]) == (10.0, 2, 6.0, 12.5)
    assert (row["defense"], row["model"], row["seed"], row["status"]) == ("a", "cnn", 0, "ok")


def test_a_sample_that_was_wrong_before_never_counts_as_robust() -> None:
    row = Bench().clean("a").attack("a", "noise", []).table().iloc[0]
    assert row["noise"] == row["clean"] == 6 / 8
    assert row["success rate"] == 0


def test_a_failed_cell_is_neither_robust_nor_blank() -> None:
    bench = Bench().clean("a").attack("a", "fgsm", [0]).attack("a", "pgd", [], status="error", error="E: boom")
    row = bench.table().iloc[0]
    assert np.isnan(row["pgd"])
    assert np.isnan(row["pgd low"])
    assert row["pgd status"] == "error"
    assert row["status"] == "1 of 3 failed"
    assert row["worst case"] == row["fgsm"]


def test_without_one_attack_that_worked_there_is_no_worst_case() -> None:
    row = Bench().clean("a").attack("a", "pgd", [], status="error", error="E: boom").table().iloc[0]
    assert row["clean"] == 6 / 8
    assert np.isnan(row["worst case"])
    assert np.isnan(row["success rate"])


def test_a_run_that_was_cut_off_has_gaps() -> None:
    bench = Bench().clean("a").attack("a", "pgd", [0]).attack("b", "pgd", [1])
    rows = bench.table().set_index("defense")
    assert np.isnan(rows.loc["b", "clean"])
    assert rows.loc["b", "pgd"] == 5 / 8


def test_a_curve_has_a_column_an_eps_and_a_minimal_attack_fills_them_all() -> None:
    distances = np.array([0.05, 0.15, 0.25, 0.0, 0.3, 0.3, 0.0, 0.0])
    bench = (
        Bench()
        .clean("a")
        .attack("a", "pgd", [0], eps=0.1)
        .attack("a", "pgd", [0, 4], eps=0.2)
        .attack("a", "ddn", [0, 1, 2], eps=0.2, goal="minimal", distances=distances)
    )
    row = bench.table().iloc[0]
    assert attack_columns(bench.records) == [
        "pgd @ 0.1",
        "pgd @ 0.2",
        "ddn @ 0.1",
        "ddn @ 0.2",
        "worst case @ 0.1",
        "worst case @ 0.2",
    ]
    assert (row["ddn @ 0.1"], row["ddn @ 0.2"]) == (5 / 8, 4 / 8)
    assert (row["worst case @ 0.1"], row["worst case @ 0.2"]) == (5 / 8, 3 / 8)
    assert row["success rate"] == pytest.approx(3 / 6)


def test_a_minimal_attack_alone_makes_a_curve() -> None:
    distances = np.array([0.05, 0.15, 0.25, 0.0, 0.3, 0.3, 0.0, 0.0])
    bench = Bench().clean("a").attack("a", "ddn", [0, 1, 2], eps=0.2, goal="minimal", distances=distances)
    bench.records[-1]["threat"]["radii"] = [0.05, 0.1, 0.2]
    row = bench.table().iloc[0]
    assert [row[f"ddn @ {eps}"] for eps in (0.05, 0.1, 0.2)] == [5 / 8, 5 / 8, 4 / 8]


def test_in_a_cascade_columns_add_up() -> None:
    bench = Bench().clean("a").attack("a", "fgsm", [0, 1], cascade=True).attack("a", "pgd", [2], cascade=True)
    row = bench.table().iloc[0]
    assert (row["fgsm"], row["pgd"], row["worst case"]) == (4 / 8, 3 / 8, 3 / 8)


def test_mean_and_standard_deviation_over_seeds() -> None:
    bench = Bench()
    for seed, fell in enumerate([[0], [0, 1], [0, 1, 2]]):
        bench.clean("a", seed).attack("a", "pgd", fell, seed=seed)
    bench.clean("b", 0).attack("b", "pgd", [], seed=0, status="error", error="x")
    rows = over_seeds(bench.table()).set_index("defense")
    values = np.array([5 / 8, 4 / 8, 3 / 8])
    assert rows.loc["a", "pgd"] == pytest.approx(values.mean())
    assert rows.loc["a", "± pgd"] == pytest.approx(values.std(ddof=1))
    assert rows.loc["a", "seeds"] == 3
    assert np.isnan(rows.loc["b", "pgd"])
    assert (rows.loc["a", "status"], rows.loc["b", "status"]) == ("ok", "error")


def test_tidy_has_one_row_a_cell() -> None:
    bench = Bench().clean("a").attack("a", "pgd", [0]).attack("a", "fgsm", [], status="error", error="E: boom")
    frame = tidy(bench.records)
    assert list(frame["kind"]) == ["clean", "attack", "attack"]
    assert list(frame["status"]) == ["ok", "ok", "error"]
    assert frame.loc[1, "forwards"] == 3.0
    assert np.isnan(frame.loc[2, "forwards"])
    assert json.loads(frame.to_json(orient="records"))[2]["error"] == "E: boom"


@given(
    fallen=st.lists(st.sets(st.integers(0, N - 1)), min_size=1, max_size=5),
    right=st.lists(st.booleans(), min_size=N, max_size=N),
)
@settings(deadline=None, max_examples=60)
def test_the_worst_case_is_never_above_any_attack(fallen: list[set[int]], right: list[bool]) -> None:
    bench = Bench().clean("a", right=np.array(right))
    for number, fell in enumerate(fallen):
        bench.attack("a", f"attack{number}", sorted(fell))
    row = bench.table().iloc[0]
    kept = RIGHT & ~np.isin(np.arange(N), sorted(set().union(*fallen)))
    assert row["worst case"] == kept.mean()
    assert row["worst case"] <= min(row[f"attack{number}"] for number in range(len(fallen)))
