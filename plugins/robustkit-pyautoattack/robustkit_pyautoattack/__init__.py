"""The reference AutoAttack in RobustKit's table. Rows only: nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.hookspecs import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    yield AttackEntry(
        name="autoattack",
        target="robustkit_pyautoattack.autoattack:AutoAttack",
        summary="AutoAttack, as RobustBench runs it: versions standard, plus and rand.",
        paper="https://arxiv.org/abs/2003.01690",
        needs="pyautoattack",
        notes="Published numbers have steps=100 and queries=5000, the defaults. Needs 4 classes, version rand 3.",
        norms=frozenset({"linf", "l2", "l1"}),
    )
