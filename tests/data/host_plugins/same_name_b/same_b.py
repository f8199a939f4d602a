"""The second of two distributions that call their plugin `same`."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="from_b", target="same_b:Sign", summary="One step.", norms=frozenset({"linf"}))
