"""The hook is not marked."""

from robustkit import AttackEntry


def robustkit_attacks():
    yield AttackEntry(name="sign", target="undecorated:Sign", summary="One step.", norms=frozenset({"linf"}))
