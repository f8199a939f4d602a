"""AutoAttack against the conformance kit, with few steps and queries."""

from __future__ import annotations

import pytest
import robustkit_pyautoattack

from robustkit import testing

pytest.importorskip("pyautoattack")


@testing.parametrize(robustkit_pyautoattack, settings={"autoattack": {"steps": 10, "queries": 20}})
def test_conformance(check: testing.Check) -> None:
    check()
