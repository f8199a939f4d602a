"""Leaves as it is imported."""

import sys

sys.exit("no licence found")
