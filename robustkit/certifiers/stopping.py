"""Certification from counts alone: when to draw, when to stop, what may be promised.

`draw(rows, count)` gives fresh counts by class, (len(rows), K) int64, of `count` noisy copies of each of the
inputs `rows`. It stands for a network, or for a simulation of one; nothing here knows which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    Where a single share is wanted it is tested by the mixture martingale; else each look has its own limit.
    Giving up early is always sound, so `futility` costs nothing of alpha.
    """

    first: int
    growth: float
    last: int
    alpha: float
    shares: tuple[float, ...]
    futility: float


def adaptive(draw: Draw, tested: Ints, noise: Noise, plan: Plan, radii: tuple[float, ...]) -> Found:
    """Cumulative counts of the classes `tested`, which must not come from the same draws.

    With limits L_k at level alpha_k, Σ alpha_k = alpha, the event "some L_k > p" has probability ≤ alpha, so the
    largest limit holds at whichever look it stops (union bound). With a single share p_r the martingale's first
    passage of 1/alpha certifies it (Ville's inequality).
    """
    sizes = looks(plan.first, plan.growth, plan.last)
    levels = spending(plan.alpha, len(sizes))
    goals = np.array(plan.shares)
    single = len(goals) == 1
    # The share that must be seen at the last look for each goal; less than that is hopeless.
    needed = goals + 2.0 * np.sqrt(goals * (1 - goals) / plan.last)
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
        if single:
            proved = log_evidence(here, size, goals[0]) >= -np.log(plan.alpha)
            reached[open_rows] = proved
        else:
            best[open_rows] = np.maximum(best[open_rows], lower_limit(here, size, level))
            reached[open_rows] = np.searchsorted(goals, best[open_rows], side="right")
        done = reached[open_rows] == len(goals)
        target = needed[np.minimum(reached[open_rows], len(goals) - 1)]
        hopeless = upper_limit(here, size, plan.futility) < target
        open_rows = open_rows[~(done | hopeless)]
    if single:
        radius = np.where(reached == 1, radii[0], 0.0)
        certified = reached == 1
    else:
        radius, certified = noise.radius(best), best >= 0.5
    return Found(
        prediction=np.where(certified, tested, ABSTAIN),
        radius=radius,
        tested=tested,
        hits=hits,
        n=n,
        looks=seen,
        passes=n.copy(),
    )
