"""Every entry against the conformance kit."""

from __future__ import annotations

import pytest

pytest.importorskip("torchattacks")

import robustkit_torchattacks
from robustkit import testing

@testing.parametrize(robustkit_torchattacks)
def test_conformance(check: testing.Check) -> None:
    check()
