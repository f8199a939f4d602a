from __future__ import annotations

import pandas as pd
import pytest
from scipy.stats import binomtest

from robustkit.engine.statistics import paired_difference
from robustkit.params import UsageError
from robustkit.report.compare import compare, differences
from tests.conftest import Bench


def _compared(one: Bench, other: Bench) -> pd.DataFrame:
    return compare(one.records, one.columns.__getitem__, other.records, other.columns.__getitem__)


def test_runs_are_paired_sample_by_sample() -> None:
    one = Bench().clean("a").attack("a", "pgd", [0, 1, 2, 3])
    other = Bench().clean("a").attack("a", "pgd", [3, 4])
    rows = _compared(one, other).set_index("attack")
    assert list(rows.index) == ["clean", "pgd", "worst case"]
    row = rows.loc["pgd"]
    assert (row["first"], row["second"], row["difference"]) == (2 / 8, 4 / 8, 2 / 8)
    assert (row["only first"], row["only second"]) == (1, 3)
    assert row["p (McNemar)"] == pytest.approx(binomtest(1, 4).pvalue)
    assert (row["difference"], row["low"], row["high"]) == paired_difference(1, 3, 8)
    assert rows.loc["clean", "difference"] == 0
    assert rows.loc["clean", "p (McNemar)"] == 1


def test_only_what_both_have_is_compared() -> None:
    one = Bench().clean("a").attack("a", "pgd", [0]).attack("a", "fgsm", [1]).clean("b")
    other = Bench().clean("a").attack("a", "pgd", [0]).attack("a", "fgsm", [], status="error", error="x")
    other.clean("c", seed=1).clean("d", seed=1)
    rows = _compared(one, other)
    assert [(row["defense"], row["attack"]) for _, row in rows.iterrows()] == [
        ("a", "clean"),
        ("a", "pgd"),
        ("a", "worst case"),
    ]


def test_the_one_model_that_each_run_has_alone_is_compared() -> None:
    one = Bench().clean("standard").clean("pgd_at")
    other = Bench().clean("standard").clean("free_at")
    assert list(_compared(one, other)["defense"]) == ["standard", "pgd_at → free_at"]


def test_attacks_at_other_radii_are_other_attacks() -> None:
    one = Bench().clean("a").attack("a", "pgd", [0], eps=0.1)
    other = Bench().clean("a").attack("a", "pgd", [0], eps=0.2).attack("a", "pgd", [1], eps=0.1)
    rows = _compared(one, other)
    assert [(r["attack"], r["eps"]) for _, r in rows.iterrows() if r["attack"] != "clean"] == [
        ("pgd", 0.1),
        ("worst case", 0.1),
    ]


def test_other_samples_cannot_be_paired() -> None:
    one, other = Bench().clean("a"), Bench().clean("a")
    other.records[0]["dataset"] = {**other.records[0]["dataset"], "n": 4}
    with pytest.raises(UsageError, match="n = 8 and tiny, n = 4"):
        _compared(one, other)
    other.records[0]["dataset"] = {"name": "other", "n": 8, "fingerprint": "y"}
    with pytest.raises(UsageError, match="tiny, n = 8 and other"):
        _compared(one, other)


def test_another_norm_is_refused() -> None:
    one, other = Bench().clean("a"), Bench().clean("a")
    other.records[0]["threat"] = {"norm": "l2", "eps": 0.1}
    with pytest.raises(UsageError, match="linf and l2"):
        _compared(one, other)


def test_runs_without_a_good_cell_in_common_say_so() -> None:
    failed = Bench().clean("a", status="error", error="x")
    with pytest.raises(UsageError, match="no good cell"):
        _compared(Bench().clean("a"), failed)


def test_environments_are_compared_in_words() -> None:
    first = {"device": "cpu", "versions": {"torch": "2.1", "foolbox": "3"}}
    second = {"device": "cuda", "versions": {"torch": "2.2"}}
    assert differences(first, second) == ["device: cpu and cuda", "foolbox: 3 and absent", "torch: 2.1 and 2.2"]
    assert differences(first, first) == []
