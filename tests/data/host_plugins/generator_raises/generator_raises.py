"""The hook fails after its first entry."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="first", target="generator_raises:First", summary="One step.", norms=frozenset({"linf"}))
    raise SystemExit(3)
