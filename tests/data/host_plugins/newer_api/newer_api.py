"""Written for another number of the hooks."""

from robustkit import AttackEntry, hookimpl

ROBUSTKIT_API = 2


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="sign", target="newer_api:Sign", summary="One step.", norms=frozenset({"linf"}))
