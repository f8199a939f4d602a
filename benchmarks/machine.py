"""What every result states: machine, versions, date."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

from robustkit.pipeline.environment import environment


def stated(device: str = "cpu") -> str:
    """A paragraph for the head of a result."""
    found = environment(device)
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{found['processor']}, {found['cores']} cores, {found['threads']} threads, {found['platform']}, "
        f"Python {found['python']}; {versions}; {datetime.now(UTC).date().isoformat()}."
    )


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median with minimum and maximum."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
