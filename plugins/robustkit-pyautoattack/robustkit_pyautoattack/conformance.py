"""What the conformance kit has to know: few steps and queries suffice there."""

from __future__ import annotations

SETTINGS = {"autoattack": {"steps": 10, "queries": 20}}
