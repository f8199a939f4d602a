"""Its requirements on robustkit hold for other systems or for an extra only."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="sign", target="marker:Sign", summary="One step.", norms=frozenset({"linf"}))
