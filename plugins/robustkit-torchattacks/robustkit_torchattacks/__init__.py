"""The attacks of torchattacks 3.5.1 in RobustKit's table. Rows only: nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.hookspecs import AttackEntry, hookimpl
from robustkit_torchattacks.coverage import UNSUPPORTED, WRAPS
from robustkit_torchattacks.rows_gradient import gradient_rows, transfer_rows
from robustkit_torchattacks.rows_others import minimal_rows, noise_rows, parameter_free_rows, score_rows

__all__ = ["UNSUPPORTED", "WRAPS", "robustkit_attacks"]


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    yield from noise_rows()
    yield from gradient_rows()
    yield from transfer_rows()
    yield from parameter_free_rows()
    yield from minimal_rows()
    yield from score_rows()
