"""When two defenses are told apart: pure functions of which samples stand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustkit.engine.sequences import mean_limits

LEVEL = 0.95

Pairs = Mapping[tuple[str, str], tuple[float, float]]
"""Limits of the difference second − first, by pair of labels."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One pair after a look: the difference second − first in robust accuracy, its limits, and what they say.

    Args:
        first, second: labels.
        difference: of the samples seen.
        low, high: limits that hold at every look, for all pairs together.
        apart: they exclude 0.
        narrow: they are not wider than was asked.
        leading: one of the two has the highest robust accuracy so far.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    apart: bool
    narrow: bool
    leading: bool


def look(standing: Mapping[str, np.ndarray], before: Pairs) -> Pairs:
    """The limits of every pair after a look at the samples so far.

    The error of 5 % is shared by all pairs alike (Bonferroni), so that all limits hold together and the leading model
    may be another at every look. Limits of earlier looks hold too, so that they are intersected; where nothing
    remains, as may happen in those 5 %, this look's own are taken.

    Args:
        standing: by label, (N,) in [0, 1]: for each sample the share of the models of this label that are right under
            every attack; one model, or one a seed.
        before: what came of the look before; empty at the first.
    """
    pairs = list(itertools.combinations(standing, 2))
    found = {}
    for first, second in pairs:
        low, high = mean_limits(standing[second] - standing[first], 1 - (1 - LEVEL) / len(pairs))
        earlier = before.get((first, second), (-1.0, 1.0))
        both = max(low, earlier[0]), min(high, earlier[1])
        found[first, second] = both if both[0] <= both[1] else (low, high)
    return found


def verdicts(standing: Mapping[str, np.ndarray], limits: Pairs, points: float) -> list[Verdict]:
    """What the limits say of each pair.

    Args:
        standing: as for `look`.
        limits: what came of it.
        points: half the width, in points of robust accuracy, from which an interval is narrow enough.
    """
    means = {label: float(values.mean()) for label, values in standing.items()}
    leader = max(means, key=lambda label: means[label])
    return [
        Verdict(
            first=first,
            second=second,
            difference=means[second] - means[first],
            low=low,
            high=high,
            apart=low > 0 or high < 0,
            narrow=50 * (high - low) <= points,
            leading=leader in (first, second),
        )
        for (first, second), (low, high) in limits.items()
    ]


def settled(found: Sequence[Verdict]) -> bool:
    """Whether the leading model is told apart from every other, or as near to it as was asked."""
    return all(verdict.apart or verdict.narrow for verdict in found if verdict.leading)
