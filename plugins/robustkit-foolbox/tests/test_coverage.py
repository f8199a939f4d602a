"""Every class of the library is an entry, or stands in UNSUPPORTED with the reason."""

from __future__ import annotations

import inspect

import robustkit_foolbox
from robustkit_foolbox.bridge import attacks


def test_every_attack_is_accounted_for() -> None:
    exported = {
        value.__name__
        for value in vars(attacks).values()
        if inspect.isclass(value) and issubclass(value, attacks.Attack) and value is not attacks.Attack
    }
    covered = [name for names in robustkit_foolbox.COVERS.values() for name in names]
    assert set(covered) | set(robustkit_foolbox.UNSUPPORTED) == exported
    assert len(covered) + len(robustkit_foolbox.UNSUPPORTED) == len(exported) == 58


def test_covers_names_exactly_the_entries() -> None:
    assert set(robustkit_foolbox.COVERS) == {entry.name for entry in robustkit_foolbox.robustkit_attacks()}
