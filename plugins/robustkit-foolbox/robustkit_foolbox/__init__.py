"""foolbox in RobustKit: entries only. Importing this imports no foolbox."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.hookspecs import AttackEntry, hookimpl
from robustkit_foolbox import budget_rows, minimal_rows
from robustkit_foolbox.coverage import COVERS, UNSUPPORTED

__all__ = ["COVERS", "UNSUPPORTED"]


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    yield from budget_rows.gradient()
    yield from budget_rows.budget()
    yield from minimal_rows.minimum_norm()
    yield from minimal_rows.decision()
    yield from minimal_rows.paths()
