"""Every class of the library is an entry, or stands in UNSUPPORTED with the reason."""

from __future__ import annotations

import inspect

import robustkit_art
from robustkit_art import attack_rows
from robustkit_art.bridge import evasion


def test_every_evasion_attack_is_accounted_for() -> None:
    exported = {name for name, value in vars(evasion).items() if inspect.isclass(value)}
    covered = {name for names in robustkit_art.COVERS.values() for name in names} - {"LaserBeamAttack"}
    assert covered | set(robustkit_art.UNSUPPORTED) == exported
    assert not covered & set(robustkit_art.UNSUPPORTED)


def test_covers_names_exactly_the_attack_entries() -> None:
    assert set(robustkit_art.COVERS) == {entry.name for entry in robustkit_art.robustkit_attacks()}


def test_nothing_is_called_autoattack() -> None:
    assert not [entry.name for entry in robustkit_art.robustkit_attacks() if "autoattack" in entry.name]


def test_every_row_names_what_to_install() -> None:
    assert all(attack_rows.ART in entry.needs for entry in robustkit_art.robustkit_attacks())
