"""Returns one entry, where an iterable is wanted."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    return AttackEntry(name="sign", target="single:Sign", summary="One step.", norms=frozenset({"linf"}))
