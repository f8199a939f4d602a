"""Prints as it is imported and as it is listed."""

from robustkit import AttackEntry, hookimpl

print("hello from the import")


@hookimpl
def robustkit_attacks():
    print("hello from the hook")
    yield AttackEntry(name="sign", target="good_parts:Sign", summary="One step.", norms=frozenset({"linf"}))
