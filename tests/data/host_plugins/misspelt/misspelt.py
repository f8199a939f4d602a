"""One hook is misspelt, the other works."""

from robustkit import AttackEntry, ModelEntry, hookimpl


@hookimpl
def robustkit_atacks():
    yield AttackEntry(name="sign", target="misspelt:Sign", summary="One step.", norms=frozenset({"linf"}))


@hookimpl
def robustkit_models():
    yield ModelEntry(name="works", target="misspelt:Works", summary="A model.")
