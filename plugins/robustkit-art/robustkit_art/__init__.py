"""The Adversarial Robustness Toolbox (ART) in RobustKit: entries only. Importing this imports no ART."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.hookspecs import (
    AttackEntry,
    CertifierEntry,
    DefenseEntry,
    DetectorEntry,
    PoisonEntry,
    hookimpl,
)
from robustkit_art import attack_rows, other_rows
from robustkit_art.coverage import COVERS, UNSUPPORTED

__all__ = ["COVERS", "UNSUPPORTED"]


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    yield from attack_rows.gradient()
    yield from attack_rows.minimum_norm()
    yield from attack_rows.black_box()
    yield from attack_rows.unbounded()


@hookimpl
def robustkit_defenses() -> Iterator[DefenseEntry]:
    yield from other_rows.wrapping()
    yield from other_rows.training()


@hookimpl
def robustkit_certifiers() -> Iterator[CertifierEntry]:
    yield from other_rows.certifiers()


@hookimpl
def robustkit_detectors() -> Iterator[DetectorEntry]:
    yield from other_rows.detectors()


@hookimpl
def robustkit_poisons() -> Iterator[PoisonEntry]:
    yield from other_rows.poisons()
