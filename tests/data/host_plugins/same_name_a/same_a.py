"""The first of two distributions that call their plugin `same`."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="from_a", target="same_a:Sign", summary="One step.", norms=frozenset({"linf"}))
