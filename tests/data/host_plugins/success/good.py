"""Works."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(
        name="sign", target="good_parts:Sign", summary="One step.", norms=frozenset({"linf"}), targeted=False
    )
    yield AttackEntry(name="pgd", target="good_parts:Sign", summary="One step.", norms=frozenset({"linf"}))
