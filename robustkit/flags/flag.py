"""What a red flag is, and when a difference counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustkit.engine.statistics import mcnemar

FlagName = Literal[
    "no-gradients",
    "random-output",
    "batch-dependent",
    "input-scale",
    "rough-loss",
    "stands-at-any-eps",
    "single-step-wins",
    "single-step-only",
    "black-box-wins",
    "transfer-wins",
    "steps-dont-help",
    "unchecked",
]

PAGE = "docs/red-flags.md"
"""What each flag means and what to run next; headings are the flags' names."""

SMALL = 0.05
"""Share of samples up to which a check says nothing."""
_LEVEL = 0.02
_POINT = 0.01


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A sign that an attack was hindered rather than withstood.

    Args:
        name: also the heading of its section in docs/red-flags.md.
        evidence: the measured numbers, in a sentence.
    """

    name: FlagName
    evidence: str

    def to_plain(self) -> dict[str, str]:
        return {"name": self.name, "evidence": self.evidence}


def more_than_a_few(hits: int, count: int) -> bool:
    """Whether `hits` of `count` samples are more than a small share: over 5 %, and two at least."""
    return hits >= 2 and hits > SMALL * count


def beats(fell: np.ndarray, other: np.ndarray) -> tuple[int, int] | None:
    """How many samples only the first attack brings down, and only the other; None where that is no more than chance.

    More by a point of all samples at least, with p < 0.01 of the one-sided exact sign test (McNemar 1947).

    Args:
        fell: (N,) bool, what the first attack brought down.
        other: (N,) bool, what the other did.
    """
    first, second = int((fell & ~other).sum()), int((other & ~fell).sum())
    ahead = first - second >= max(1.0, _POINT * len(fell))
    return (first, second) if ahead and mcnemar(second, first) < _LEVEL else None
