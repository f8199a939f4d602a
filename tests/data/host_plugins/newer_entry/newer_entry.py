"""Written for entries that have a further field."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(
        name="sign", target="newer_entry:Sign", summary="One step.", norms=frozenset({"linf"}), venue="ICLR"
    )
