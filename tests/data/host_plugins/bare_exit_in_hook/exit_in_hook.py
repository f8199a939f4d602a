"""Leaves in its hook."""

import sys

from robustkit import hookimpl


@hookimpl
def robustkit_attacks():
    sys.exit()
