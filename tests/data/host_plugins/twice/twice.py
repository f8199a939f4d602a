"""Yields one name twice."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="sign", target="twice:Sign", summary="One step.", norms=frozenset({"linf"}))
    yield AttackEntry(name="sign", target="twice:Sign", summary="One step.", norms=frozenset({"linf"}))
