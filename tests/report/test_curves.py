from __future__ import annotations

import numpy as np

from robustkit.report.curves import curves
from tests.conftest import Bench, N


def test_the_curve_is_the_share_whose_distance_is_larger() -> None:
    distances = np.array([0.02, 0.05, 0.05, 0.11, 0.3, 0.4, 0.0, 0.0])
    bench = Bench().clean("a").attack("a", "near", list(range(6)), goal="minimal", distances=distances)
    found = curves(bench.records, bench.columns.__getitem__)
    for row in found.to_dict("records"):
        expected = sum(distance > row["eps"] + 1e-5 for distance in distances[:6]) / N
        slack = sum(abs(distance - row["eps"]) < 1e-5 for distance in distances[:6]) / N
        assert abs(row["accuracy"] - expected) <= slack
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    assert found["eps"].min() == 0
    assert 0.1 < found["eps"].max() <= 0.3 + 1e-9


def test_budget_attacks_draw_no_curve() -> None:
    bench = Bench().clean("a").attack("a", "pgd", [0])
    assert curves(bench.records, bench.columns.__getitem__).empty


def test_in_a_cascade_an_attack_saw_too_little() -> None:
    bench = Bench().clean("a").attack("a", "near", [0], goal="minimal", cascade=True)
    assert curves(bench.records, bench.columns.__getitem__).empty


def test_of_several_attacks_the_envelope_is_drawn_too() -> None:
    distances = np.array([0.02, 0.05, 0.05, 0.11, 0.3, 0.4, 0.0, 0.0])
    bench = Bench().clean("a").attack("a", "near", list(range(6)), goal="minimal", distances=distances)
    found = curves(bench.attack("a", "pgd", [5]).records, bench.columns.__getitem__)
    assert set(found["attack"]) == {"near", "envelope"}
    near, both = (found[found["attack"] == name].set_index("eps")["accuracy"] for name in ("near", "envelope"))
    beyond = both.index > 0.1 + 1e-5  # where pgd has brought one more down, until its distance is reached
    assert (both[~beyond] == near[~beyond]).all()
    assert (both[beyond & (both.index < 0.4)] < near[beyond & (near.index < 0.4)]).all()
