"""Yields a model from the hook for attacks."""

from robustkit import ModelEntry, hookimpl


@hookimpl
def robustkit_attacks():
    yield ModelEntry(name="net", target="other_kind:Net", summary="A model.")
