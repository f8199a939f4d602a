"""Curves, medians and the envelope, by hand and on a linear classifier whose distances are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import robustkit
from robustkit.curves import ENVELOPE, curve, median_distances, query_curve
from tests.conftest import Bench

FAR = np.array([0.05, 0.1, 0.2, 0.4, 0.4, np.inf, 0.0, 0.0])
"""Of eight samples, the last two wrong on clean inputs."""


def of(table: pd.DataFrame, attack: str) -> list[tuple[float, float]]:
    rows = table[table["attack"] == attack]
    return list(zip(rows["eps"].round(6), (8 * rows["robust"]).round(6), strict=True))


def bench() -> Bench:
    made = Bench().clean("a").attack("a", "fmn", [0, 1, 2, 3, 4], distances=FAR, goal="minimal")
    return made.attack("a", "pgd", [0, 1, 5], eps=0.2)


def test_a_minimal_distance_is_a_curve_and_a_budget_a_point() -> None:
    made = bench()
    table = curve(made.records, made.columns.__getitem__)
    # 0.05 … come back as float32
    assert of(table, "fmn") == [(0, 6), (0.05, 5), (0.1, 4), (0.2, 3), (0.2, 3), (0.4, 1)]
    assert of(table, "pgd") == [(0.2, 3)]


def test_the_envelope_takes_the_best_attack_for_each_sample() -> None:
    made = bench()
    table = curve(made.records, made.columns.__getitem__, radii=[0.4, 0, 0.1, 0.2, 0.3])
    assert of(table, ENVELOPE) == [(0, 6), (0.1, 4), (0.2, 2), (0.3, 2), (0.4, 0)]
    for attack in ("fmn", "pgd"):
        for eps, robust in of(table, attack):
            assert dict(of(table, ENVELOPE))[eps] <= robust
    first = table.iloc[0]
    assert first["low"] < first["robust"] < first["high"]
    assert first["n"] == 8


def test_medians_count_what_was_not_found() -> None:
    made = bench().attack("a", "ddn", [0, 5], distances=np.array([0.04, 9, 9, 9, 9, 0.3, 0, 0]), goal="minimal")
    table = median_distances(made.records, made.columns.__getitem__).set_index("attack")
    assert table.loc["fmn", "median"] == pytest.approx(0.3)
    assert table.loc["fmn", "found"] == pytest.approx(5 / 6)
    assert table.loc["ddn", "median"] == np.inf
    assert table.loc[ENVELOPE, "median"] == pytest.approx(0.25)  # 0.04 0.1 0.2 | 0.3 0.4 0.4
    assert table.loc[ENVELOPE, "n"] == 6


def test_failed_cells_and_cascades_are_left_out() -> None:
    made = Bench().clean("a").attack("a", "pgd", [0], status="error", error="E")
    assert curve(made.records, made.columns.__getitem__).empty
    made = Bench().clean("a").attack("a", "pgd", [0], cascade=True)
    assert set(curve(made.records, made.columns.__getitem__)["attack"]) == {ENVELOPE}


def test_a_linear_classifier_s_curve_is_that_of_its_margins() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).requires_grad_(False)
    x = 0.4 + 0.2 * torch.rand(40, 1, 4, 4)
    model[1].bias -= model(x).mean(dim=0)  # close to the boundary, where the box does not matter
    logits = model(x)
    y = logits.argmax(dim=1)
    difference = model[1].weight[0] - model[1].weight[1]
    exact = ((logits[:, 0] - logits[:, 1]).abs() / difference.norm()).double().numpy()
    result = robustkit.evaluate(model, (x, y), "ddn:steps=100", ("l2", 0.1), precision="fp32")
    table = curve(result.records, result.samples.__getitem__, radii=[0.0, *np.quantile(exact, [0.25, 0.5, 0.75])])
    found = table[table["attack"] == ENVELOPE]["robust"].to_numpy()
    assert np.abs(found - [1.0, 0.75, 0.5, 0.25]).max() <= 0.026  # one sample
    median = median_distances(result.records, result.samples.__getitem__)["median"].iloc[0]
    assert np.median(exact) * 0.999 <= median <= np.median(exact) * 1.02


def counted(made: Bench, queries: list[int]) -> Bench:
    made.columns[made.records[-1]["key"]]["queries"] = np.array(queries)
    return made


def after(table: pd.DataFrame, attack: str) -> list[tuple[int, float]]:
    rows = table[table["attack"] == attack]
    return list(zip(rows["queries"], 8 * rows["robust"], strict=True))


def test_each_sample_falls_at_the_query_that_brought_it_down() -> None:
    made = counted(Bench().clean("a").attack("a", "square", [0, 1, 4]), [3, 40, 100, 100, 40, 100, 0, 0])
    table = query_curve(made.attack("a", "pgd", [5]).records, made.columns.__getitem__)
    assert set(table["attack"]) == {"square"}  # the other counts nothing
    assert after(table, "square") == [(0, 6), (3, 5), (40, 3), (100, 3)]
    assert after(query_curve(made.records, made.columns.__getitem__, [2, 50, 0]), "square") == [(0, 6), (2, 6), (50, 3)]
    first = table.iloc[0]
    assert first["low"] < first["robust"] < first["high"]
    assert (first["eps"], first["n"], first["norm"]) == (0.1, 8, "linf")


def test_a_distance_beyond_eps_took_all_queries_in_vain() -> None:
    made = counted(bench(), [0] * 8)  # pgd's
    made.records = made.records[:2]
    made.columns[made.records[1]["key"]]["queries"] = np.array([7, 9, 90, 90, 90, 90, 0, 0])
    assert after(query_curve(made.records, made.columns.__getitem__), "fmn") == [(0, 6), (7, 5), (9, 4), (90, 4)]


def test_queries_of_failed_cells_and_cascades_are_left_out() -> None:
    made = counted(Bench().clean("a").attack("a", "square", [0], cascade=True), [1] * 8)
    made.attack("a", "nes", [0], status="error", error="E")
    assert query_curve(made.records, made.columns.__getitem__).empty
