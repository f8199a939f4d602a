"""Yields what is no entry."""

from robustkit import hookimpl


@hookimpl
def robustkit_attacks():
    yield {"name": "sign"}
