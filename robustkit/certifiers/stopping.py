"""Certification from counts alone: when to draw, when to stop, what may be promised.

`draw(rows, count)` gives fresh counts by class, (len(rows), K) int64, of `count` noisy copies of each of the
inputs `rows`. It stands for a network, or for a simulation of one; nothing here knows which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustkit.certifiers.confidence import Floats, Ints, log_evidence, looks, lower_limit, spending, upper_limit
from robustkit.certifiers.smoothing_noise import Noise
from robustkit.contracts import ABSTAIN

Draw = Callable[[Ints, int], Ints]


@dataclass(frozen=True, kw_only=True)
class Found:
    """By input: prediction or ABSTAIN, radius, the class tested, its hits in `n` draws, looks, all forward passes."""

    prediction: Ints
    radius: Floats
    tested: Ints
    hits: Ints
    n: Ints
    looks: Ints
    passes: Ints


def fixed(draw: Draw, inputs: int, noise: Noise, n0: int, n: int, alpha: float) -> Found:
    """CERTIFY of Cohen et al. 2019: select a class on n0 draws, estimate its share on n fresh ones."""
    rows = np.arange(inputs)
    tested = draw(rows, n0).argmax(axis=1).astype(np.int64)
    hits = draw(rows, n)[rows, tested]
    share = lower_limit(hits, n, alpha)
    whole = np.full(inputs, n, dtype=np.int64)
    return Found(
        prediction=np.where(share >= 0.5, tested, ABSTAIN),
        radius=noise.radius(share),
        tested=tested,
        hits=hits,
        n=whole,
        looks=np.ones(inputs, dtype=np.int64),
        passes=whole + n0,
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How `adaptive` looks: sizes, the shares to be reached (rising, each > 1/2 or the first 1/2), and futility.

    `evidence` says how a single share is tested: "looks", like several, or "mixture".
    """

    first: int
    growth: float
    last: int
    alpha: float
    shares: tuple[float, ...]
    futility: float
    evidence: Literal["looks", "mixture"] = "looks"


def adaptive(draw: Draw, tested: Ints, noise: Noise, plan: Plan, radii: tuple[float, ...]) -> Found:
    """Cumulative counts of the classes `tested`, which must not come from the same draws.

    With limits L_k at level alpha_k, Σ alpha_k = alpha, the event "some L_k > p" has probability ≤ alpha, so the
    largest limit holds at whichever look it stops (union bound). With evidence="mixture" half of alpha goes to
    the martingale's first passage of 2/alpha (Ville's inequality), half to the limit at the last look.
    """
    mixture = plan.evidence == "mixture" and len(plan.shares) == 1
    sizes = looks(plan.first, plan.growth, plan.last)
    levels = spending(plan.alpha, len(sizes))
    goals = np.array(plan.shares)
    inputs = len(tested)
    hits, n, seen = (np.zeros(inputs, dtype=np.int64) for _ in range(3))
    best, reached = np.zeros(inputs), np.zeros(inputs, dtype=np.int64)
    open_rows = np.arange(inputs)
    for size, level in zip(sizes, levels, strict=True):
        if not len(open_rows):
            break
        fresh = draw(open_rows, int(size - n[open_rows][0]))
        hits[open_rows] += fresh[np.arange(len(open_rows)), tested[open_rows]]
        n[open_rows], seen[open_rows] = size, seen[open_rows] + 1
        here = hits[open_rows]
        if mixture:
            proved = log_evidence(here, size, goals[0]) >= -np.log(plan.alpha / 2)
            if size == plan.last:
                proved |= lower_limit(here, size, plan.alpha / 2) >= goals[0]
            best[open_rows] = np.where(proved, goals[0], 0.0)
        else:
            best[open_rows] = np.maximum(best[open_rows], lower_limit(here, size, level))
        reached[open_rows] = np.searchsorted(goals, best[open_rows], side="right")
        done = reached[open_rows] == len(goals)
        target = _needed(goals, plan.last)[np.minimum(reached[open_rows], len(goals) - 1)]
        open_rows = open_rows[~(done | (upper_limit(here, size, _patience(plan, int(size))) < target))]
    radius = np.where(reached == 1, radii[0], 0.0) if mixture else noise.radius(best)
    return Found(
        prediction=np.where(reached == 1 if mixture else best >= 0.5, tested, ABSTAIN),
        radius=radius,
        tested=tested,
        hits=hits,
        n=n,
        looks=seen,
        passes=n.copy(),
    )


def _needed(goals: Floats, last: int) -> Floats:
    """The share of hits without which a goal is hopeless at the last look: 3 standard deviations above it."""
    needed: Floats = goals + 3 * np.sqrt(goals * (1 - goals) / last)
    return needed


def _patience(plan: Plan, size: int) -> float:
    """The level at which an input is given up: low while another look is cheap, rising to `futility` at the last.

    Giving up is always sound, so this costs nothing of alpha; it trades passes for certificates.
    """
    return float(plan.futility * (size / plan.last) ** 0.5)
