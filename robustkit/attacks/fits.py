"""Whether an attack is meant for a norm; asked before any work is done."""

from __future__ import annotations

from robustkit.contracts import Norm, Threat
from robustkit.params import UsageError

GRADIENT_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
"""Balls in which a gradient step or a random point means something; l0 needs attacks of its own."""


def require_norm(attack: str, threat: Threat, norms: tuple[Norm, ...] = GRADIENT_NORMS) -> None:
    """Raises UsageError where `attack` has no form for the norm of `threat`."""
    if threat.norm not in norms:
        raise UsageError(f"{attack} has no form for norm={threat.norm}; it fits {', '.join(norms)}")
