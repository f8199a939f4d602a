"""Offers a pgd as well: the bare name stays with what is built in; `sign` becomes ambiguous."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="sign", target="good_parts:Sign", summary="One step.", norms=frozenset({"linf"}))
    yield AttackEntry(
        name="only_here",
        target="other_missing:Sign",
        summary="One step.",
        norms=frozenset({"linf"}),
        needs="some-library",
    )
