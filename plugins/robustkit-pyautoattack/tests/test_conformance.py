"""AutoAttack against the conformance kit."""

from __future__ import annotations

import pytest
import robustkit_pyautoattack

from robustkit import testing

pytest.importorskip("pyautoattack")


@testing.parametrize(robustkit_pyautoattack)
def test_conformance(check: testing.Check) -> None:
    check()
