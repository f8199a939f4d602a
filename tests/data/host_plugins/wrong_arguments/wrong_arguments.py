"""A hook with an argument that nobody passes."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks(library):
    yield AttackEntry(name="sign", target="wrong_arguments:Sign", summary="One step.", norms=frozenset({"linf"}))
