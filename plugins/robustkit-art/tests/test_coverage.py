"""Every class of the library is an entry, or stands in UNSUPPORTED with the reason."""

from __future__ import annotations

import importlib
import inspect

import robustkit_art
from robustkit_art import attack_rows

MODULES = (
    "art.attacks.evasion",
    "art.attacks.poisoning",
    "art.defences.preprocessor",
    "art.defences.postprocessor",
    "art.defences.trainer",
    "art.defences.detector.poison",
    "art.defences.detector.evasion",
)
ENTRIES = (
    *robustkit_art.robustkit_attacks(),
    *robustkit_art.robustkit_defenses(),
    *robustkit_art.robustkit_certifiers(),
    *robustkit_art.robustkit_detectors(),
    *robustkit_art.robustkit_poisons(),
)


def test_every_class_is_accounted_for() -> None:
    exported = {
        name
        for module in MODULES
        for name, value in vars(importlib.import_module(module)).items()
        if inspect.isclass(value)
    }
    elsewhere = {"LaserBeamAttack", "PyTorchRandomizedSmoothing"}
    covered = {name for names in robustkit_art.COVERS.values() for name in names} - elsewhere
    assert covered | set(robustkit_art.UNSUPPORTED) == exported
    assert not covered & set(robustkit_art.UNSUPPORTED)


def test_covers_names_exactly_the_entries() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names)) == len(robustkit_art.COVERS)
    assert set(names) == set(robustkit_art.COVERS)


def test_nothing_is_called_autoattack() -> None:
    assert not [entry.name for entry in ENTRIES if "autoattack" in entry.name]


def test_every_row_names_what_to_install() -> None:
    assert all(attack_rows.ART in entry.needs for entry in ENTRIES)
