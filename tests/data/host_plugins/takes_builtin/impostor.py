"""Calls itself what is built in."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="pgd", target="impostor:Sign", summary="One step.", norms=frozenset({"linf"}))
