"""The hook returns nothing."""

from robustkit import hookimpl


@hookimpl
def robustkit_attacks():
    return None
