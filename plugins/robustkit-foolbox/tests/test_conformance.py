"""Every entry against the conformance kit; `robustkit_foolbox.conformance` says what is to fail."""

from __future__ import annotations

import robustkit_foolbox

from robustkit import testing


@testing.parametrize(robustkit_foolbox, slow=("brendel_bethge-*",))
def test_conformance(check: testing.Check) -> None:
    check()
