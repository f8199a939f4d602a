"""Its component imports torch; listing it must not."""

from robustkit import AttackEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield AttackEntry(name="sign", target="heavy_parts:Sign", summary="One step.", norms=frozenset({"linf"}))
    yield AttackEntry(name="fails", target="heavy_fails:Sign", summary="One step.", norms=frozenset({"linf"}))
    yield AttackEntry(name="function", target="heavy_parts:function", summary="One step.", norms=frozenset({"linf"}))
    yield AttackEntry(name="gone", target="heavy_parts:Gone", summary="One step.", norms=frozenset({"linf"}))
