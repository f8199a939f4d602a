"""One hook fails, the other works."""

from robustkit import ModelEntry, hookimpl


@hookimpl
def robustkit_attacks():
    raise RuntimeError("the table is gone")


@hookimpl
def robustkit_models():
    yield ModelEntry(name="works", target="hook_raises:Works", summary="A model.")
