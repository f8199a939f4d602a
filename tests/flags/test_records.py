"""Flags that come of comparing attacks: from records made for each case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robustkit.flags.flag import beats, more_than_a_few
from robustkit.flags.records import flagged

N = 100


class Made:
    """Records of one model: all right on clean inputs, each attack brings down the first so many of an order."""

    def __init__(self, *, cascade: bool = False) -> None:
        self.cascade = cascade
        self.records: list[dict[str, Any]] = []
        self.columns: dict[str, dict[str, np.ndarray]] = {}
        self._add("clean", None, np.zeros(N, dtype=bool), 0.1, "linf")

    def attack(
        self,
        name: str,
        fell: int | np.ndarray,
        *,
        eps: float = 0.1,
        norm: str = "linf",
        knowledge: str = "white-box",
        goal: str = "budget",
        **params: Any,
    ) -> Made:
        label = ":".join([name, *(f"{key}={value}" for key, value in params.items())])
        component = {
            "name": f"robustkit.{name}",
            "label": label,
            "params": params,
            "knowledge": knowledge,
            "goal": goal,
        }
        return self._add("attack", component, np.arange(N) < fell if isinstance(fell, int) else fell, eps, norm)

    def _add(self, kind: str, component: dict[str, Any] | None, fell: np.ndarray, eps: float, norm: str) -> Made:
        key = str(len(self.records))
        label = np.zeros(N, dtype=np.int64)
        self.columns[key] = {
            "label": label,
            "clean_pred": label,
            "adv_pred": np.where(fell, 1, 0),
            "attacked": np.ones(N, dtype=bool),
            "success": fell,
            f"dist_{norm}": np.where(fell, eps / 2, np.inf),
        }
        record = {
            "key": key,
            "kind": kind,
            "subject": {"label": "model", "seed": 0},
            "component": component,
            "threat": {"norm": norm, "eps": eps},
            "status": "ok",
            "cascade": self.cascade,
        }
        self.records.append(record)
        return self

    def flags(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = flagged(self.records, self.columns.__getitem__)[0]["flags"]
        return found

    def names(self) -> list[str]:
        return [flag["name"] for flag in self.flags()]


def test_an_honest_order_has_no_flags() -> None:
    made = Made().attack("fgsm", 40).attack("pgd", 60, steps=40).attack("square", 50, knowledge="score", queries=5000)
    made.attack("transfer", 30, knowledge="decision").attack("pgd", 60, steps=100).attack("pgd", 100, eps=0.5, steps=40)
    assert made.flags() == []


def test_one_step_that_beats_many() -> None:
    (flag,) = Made().attack("fgsm", 60).attack("pgd", 40, steps=40).flags()
    assert flag["name"] == "single-step-wins"
    assert "fgsm brings down 20 of 100 samples that pgd:steps=40 left standing" in flag["evidence"]
    assert "leaves 0" in flag["evidence"]


@pytest.mark.parametrize(("name", "params"), [("fgsm", {}), ("rfgsm", {}), ("pgd", {"steps": 1})])
def test_single_steps_alone_are_no_judgement(name: str, params: dict[str, int]) -> None:
    (flag,) = Made().attack(name, 10, **params).flags()
    assert flag["name"] == "single-step-only"
    assert "90 of 100 samples stand" in flag["evidence"]
    assert Made().attack(name, 10, **params).attack("pgd", 20, steps=40).names() == []
    assert Made().attack(name, 10, **params).attack("square", 20, knowledge="score").names() == []
    assert Made().attack(name, 97, **params).names() == []  # little is claimed


def test_a_pgd_of_one_step_is_a_single_step_and_few_steps_are_neither() -> None:
    assert Made().attack("pgd", 60, steps=1).attack("apgd", 40, steps=100).names() == ["single-step-wins"]
    assert Made().attack("fgsm", 60).attack("pgd", 40, steps=3).names() == []


def test_a_black_box_against_all_white_boxes_together() -> None:
    odd, even = np.arange(N) % 4 == 1, np.arange(N) % 4 == 2
    made = Made().attack("pgd", odd, steps=40).attack("cw", even, steps=100, goal="minimal")
    made.attack("square", odd | even, knowledge="score")
    assert made.names() == []
    made.attack("hopskipjump", np.arange(N) % 4 > 0, knowledge="decision")
    assert made.names() == ["black-box-wins"]


def test_transfer_is_told_apart() -> None:
    assert Made().attack("pgd", 10, steps=40).attack("transfer", 40, knowledge="decision").names() == ["transfer-wins"]


@pytest.mark.parametrize(("one", "ten", "many", "expected"), [(30, 31, 80, 1), (30, 60, 80, 0), (30, 31, 33, 0)])
def test_steps_that_help_only_when_there_are_many(one: int, ten: int, many: int, expected: int) -> None:
    made = Made()
    for steps, fell in ((1, one), (10, ten), (1000, many)):
        made.attack("pgd", fell, steps=steps, step_size=1 / steps, loss="cross_entropy")
    assert made.names().count("steps-dont-help") == expected


def test_other_parameters_are_another_attack() -> None:
    made = Made().attack("pgd", 30, steps=1, loss="margin").attack("pgd", 31, steps=10, loss="cross_entropy")
    made.attack("pgd", 80, steps=1000, loss="cross_entropy")
    assert "steps-dont-help" not in made.names()


def test_what_stands_when_the_ball_is_the_box() -> None:
    assert Made().attack("pgd", 80, eps=0.5, steps=40).names() == ["stands-at-any-eps"]
    assert Made().attack("pgd", 80, eps=0.3, steps=40).names() == []
    assert Made().attack("pgd", 96, eps=0.5, steps=40).names() == []  # a small share
    assert Made().attack("fgsm", 80, eps=0.5).names() == ["single-step-only"]  # one step may well fail


def test_a_search_for_the_nearest_point_must_find_one() -> None:
    assert Made().attack("fmn", 80, goal="minimal", steps=100).names() == ["stands-at-any-eps"]
    assert Made().attack("fmn", 80, goal="minimal", steps=10).names() == []


def test_in_a_cascade_nothing_is_compared() -> None:
    made = Made(cascade=True).attack("pgd", 0, steps=40).attack("square", 80, knowledge="score")
    assert all("flags" not in record for record in flagged(made.records, made.columns.__getitem__))


def test_flags_of_the_model_are_kept_and_none_is_said_twice() -> None:
    made = Made().attack("fgsm", 60).attack("pgd", 40, steps=40)
    own = {"name": "random-output", "evidence": "e"}
    made.records[0]["flags"] = [own]
    once = flagged(made.records, made.columns.__getitem__)
    assert [flag["name"] for flag in once[0]["flags"]] == ["random-output", "single-step-wins"]
    assert flagged(once, made.columns.__getitem__) == once


def test_a_difference_counts_only_beyond_chance() -> None:
    def first(count: int) -> np.ndarray:
        return np.arange(1000) < count

    assert beats(first(15), first(0)) == (15, 0)
    assert beats(first(5), first(0)) is None  # half a point
    assert beats(first(50), np.arange(1000) >= 955) is None  # 50 and 45
    assert beats(first(0), first(15)) is None


def test_a_few_are_at_least_two_and_over_five_percent() -> None:
    assert not more_than_a_few(1, 4)
    assert more_than_a_few(2, 30)
    assert not more_than_a_few(2, 40)
