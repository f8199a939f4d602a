"""Every entry against the conformance kit; `robustkit_torchattacks.conformance` says what is to fail."""

from __future__ import annotations

import pytest
import robustkit_torchattacks

from robustkit import testing

pytest.importorskip("torchattacks")


@testing.parametrize(robustkit_torchattacks)
def test_conformance(check: testing.Check) -> None:
    check()
