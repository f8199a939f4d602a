"""Entries refuse what would fail later, in another place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.hookspecs import AttackEntry, CertifierEntry, DetectorEntry, ModelEntry

GOOD: dict[str, Any] = {"name": "sign", "target": "mine.sign:Sign", "summary": "One step."}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Sign"}, "entry name 'Sign' must match"),
        ({"name": "1st"}, "must match"),
        ({"name": "a.b"}, "must match"),
        ({"name": 3}, "entry 3: name=3 is not a text"),
        ({"target": "mine.sign"}, "target 'mine.sign' must be 'package.module:Attribute'"),
        ({"target": "mine.sign:Sign()"}, "must be 'package.module:Attribute'"),
        ({"summary": " "}, "summary must be one non-empty line"),
        ({"summary": "two\nlines"}, "summary must be one non-empty line"),
        ({"needs": ("torchattacks",)}, "needs=.* is not a text"),
    ],
)
def test_what_every_entry_must_have(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelEntry(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norms": frozenset({"Linf"})}, r"sign: norms=.* must be a set of some of linf, l2, l1, l0"),
        ({"norms": "linf"}, "must be a set"),
        ({"knowledge": "whitebox"}, "knowledge='whitebox' is not one of white-box, score, decision"),
        ({"goal": "min"}, "goal='min' is not one of budget, minimal"),
    ],
)
def test_what_an_attack_must_have(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttackEntry(**{**GOOD, "norms": frozenset({"linf"}), **change})


def test_certifiers_and_detectors_are_checked_too() -> None:
    with pytest.raises(ValueError, match="norms"):
        CertifierEntry(**GOOD, norms=frozenset({"l3"}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scope='image' is not one of model, dataset, input"):
        DetectorEntry(**GOOD, scope="image")  # type: ignore[arg-type]


def test_an_entry_is_hashable_and_frozen_whatever_set_it_was_given() -> None:
    entry = AttackEntry(**GOOD, norms={"linf", "l2"})  # type: ignore[arg-type]
    assert entry.norms == frozenset({"linf", "l2"})
    assert len({entry, dataclasses.replace(entry)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "other"  # type: ignore[misc]


@settings(deadline=None)
@given(st.text(max_size=12))
def test_a_name_that_is_taken_can_be_written_on_the_command_line(name: str) -> None:
    try:
        entry = ModelEntry(**{**GOOD, "name": name})
    except ValueError:
        return
    assert not set(entry.name) & set(" .:,=+|\t\n'\"$*?[]")
