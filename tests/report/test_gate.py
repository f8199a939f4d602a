from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.params import UsageError
from robustkit.report.gate import Gate, check_gates, check_names, parse_gate

COLUMNS = ["pgd:steps=50", "fgsm", "mifgsm:step_size=8/255", "lib.pgd", "worst case"]
CURVE = ["pgd @ 0.1", "pgd @ 8/255", "worst case @ 0.1", "worst case @ 8/255"]


def _table(columns: list[str], **rows: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["clean", *columns]).reset_index(names="defense")
    frame.insert(1, "seed", 0)
    return frame


TABLE = _table(COLUMNS, standard=[0.99, 0.0, 0.1, 0.1, 0.0, 0.0], pgd_at=[0.97, 0.86, 0.92, 0.9, 0.88, 0.85])


def _complaints(text: str, table: pd.DataFrame = TABLE, columns: list[str] = COLUMNS) -> list[str]:
    return check_gates([parse_gate(text)], table, columns, "standard")


@pytest.mark.parametrize(
    "text",
    [
        "pgd>=0.86",
        "pgd >= 86%",
        "pgd:steps=50>=0.8",
        "clean>=0.97",
        "worst>=0.85",
        "worst case>=0.85",
        "lib.pgd>=0.88",
        "mifgsm:step_size=8/255>=0.9",
        "pgd_at/mifgsm:step_size=8/255>=0.9",
        "pgd_at/worst>=0.5",
        "standard/clean>=0.99",
        "standard/pgd>=0",
    ],
)
def test_gates_that_hold(text: str) -> None:
    assert _complaints(text) == []


@pytest.mark.parametrize("text", ["pgd>=0.87", "pgd_at/worst>=0.86", "standard/fgsm>=0.2", "clean>=98%"])
def test_gates_that_trip_say_where_and_by_how_much(text: str) -> None:
    (complaint,) = _complaints(text)
    assert ("standard" if text.startswith("standard") else "pgd_at") in complaint
    assert f"{parse_gate(text).bound:g}" in complaint


def test_a_cell_without_a_number_trips_its_gate() -> None:
    table = _table(["pgd"], pgd_at=[0.9, np.nan])
    assert _complaints("pgd>=0", table, ["pgd"]) == ["pgd_at (seed 0): pgd has no value, not 0"]


def test_the_baseline_alone_is_judged_itself() -> None:
    table = _table(["pgd"], standard=[0.9, 0.1])
    assert len(_complaints("pgd>=0.2", table, ["pgd"])) == 1


def test_at_several_eps_and_seeds_every_one_must_hold() -> None:
    table = _table(CURVE, a=[0.9, 0.3, 0.6, 0.3, 0.6], b=[0.9, 0.5, 0.7, 0.4, 0.6])
    assert len(_complaints("pgd>=0.4", table, CURVE)) == 1
    assert _complaints("pgd@8/255>=0.6", table, CURVE) == []
    assert _complaints("a/pgd @ 8/255>=0.6", table, CURVE) == []
    assert len(_complaints("worst>=0.4", table, CURVE)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pgd", "must look like"),
        ("pgd<=0.4", "must look like"),
        (">=0.4", "must look like"),
        ("/>=0.4", "must look like"),
        ("pgd>=", "no number"),
        ("pgd>=many", "'many' is no number"),
        ("pgd>=45", "share between 0 and 1"),
        ("pgd>=nan", "share between 0 and 1"),
        ("pgd>=-0.1", "share between 0 and 1"),
    ],
)
def test_other_forms_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pdg>=0.4", "no column 'pdg'; did you mean"),
        ("pgd_at/pdg>=0.4", "no column 'pdg'"),
        ("pgd_et/worst>=0.4", "no defense 'pgd_et'; did you mean pgd_at"),
        ("pgd @ 0.3>=0.4", "no column"),
    ],
)
def test_names_that_the_table_lacks_are_refused_with_close_ones(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_names([parse_gate(text)], ["standard", "pgd_at"], COLUMNS)


def test_a_word_for_two_attacks_is_refused() -> None:
    with pytest.raises(UsageError, match="may be pgd:steps=5, pgd:steps=50"):
        check_names([parse_gate("pgd>=0.4")], ["a"], ["pgd:steps=5", "pgd:steps=50", "worst case"])


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="/@"), min_size=1).filter(
        lambda name: name == name.strip() and ">=" not in name
    ),
    bound=st.floats(0, 1),
)
@settings(deadline=None)
def test_what_is_written_is_read(name: str, bound: float) -> None:
    assert parse_gate(f"{name}>={bound!r}") == Gate(name, bound)


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_text_is_a_gate_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        gate = parse_gate(text)
        assert 0 <= gate.bound <= 1
        check_names([gate], ["a"], COLUMNS)
