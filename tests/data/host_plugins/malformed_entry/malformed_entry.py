"""An entry that names no attribute."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="sign", target="malformed_entry", summary="One step.", norms=frozenset({"linf"}))
