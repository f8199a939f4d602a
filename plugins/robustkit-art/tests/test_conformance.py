"""Every entry against the conformance kit; `robustkit_art.conformance` says what is to fail."""

from __future__ import annotations

import robustkit_art

from robustkit import testing


@testing.parametrize(robustkit_art, slow=("brendel_bethge-*", "zoo-*", "geoda-*"))
def test_conformance(check: testing.Check) -> None:
    check()
