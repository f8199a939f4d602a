"""Confidence limits and tests for a binomial share; pure functions of counts, on NumPy arrays.

Everywhere `hits` of `count` independent draws were successes of unknown probability p.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaincinv, betaln

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def lower_limit(hits: ArrayLike, count: ArrayLike, alpha: ArrayLike) -> Floats:
    """One-sided lower limit of Clopper & Pearson (1934, Biometrika 26, 404): P(limit > p) ≤ alpha."""
    hits, count = np.asarray(hits, dtype=np.float64), np.asarray(count, dtype=np.float64)
    found = betaincinv(np.maximum(hits, 1), np.maximum(count - hits, 0) + 1, alpha)
    return np.where(hits > 0, found, 0.0)


def upper_limit(hits: ArrayLike, count: ArrayLike, alpha: ArrayLike) -> Floats:
    """One-sided upper limit of Clopper & Pearson: P(limit < p) ≤ alpha."""
    return 1 - lower_limit(np.asarray(count) - np.asarray(hits), count, alpha)


def log_evidence(hits: ArrayLike, count: ArrayLike, null: float) -> Floats:
    """log M of a test martingale against p ≤ null; M ≥ 1/alpha ever happens with probability ≤ alpha (Ville 1939).

    M is the likelihood of the draws mixed over p ~ Beta(1/2, 1/2) truncated to p > null, over their likelihood
    at p = null. Each factor p^hits (1 − p)^(count − hits) of the mixture has expectation ≤ 1 relative to the
    null for every true p ≤ null, hence so has M, at any stopping time. It is the running test of Robbins (1970,
    Ann. Math. Stat. 41, 1397).

    Where hits < null · count the answer is −inf: nothing speaks against the null, and there the tail of the
    posterior underflows. Elsewhere the tail is not small, so that its logarithm is exact.
    """
    hits, count = np.asarray(hits, dtype=np.float64), np.asarray(count, dtype=np.float64)
    a, b = hits + 0.5, count - hits + 0.5
    tail = betaincc(a, b, null)
    speaks = (hits >= null * count) & (tail > 0)
    mixture = betaln(a, b) + np.log(np.where(speaks, tail, 1.0)) - betaln(0.5, 0.5) - math.log(betaincc(0.5, 0.5, null))
    likelihood = hits * math.log(null) + (count - hits) * math.log1p(-null)
    return np.where(speaks, mixture - likelihood, -np.inf)


def looks(first: int, growth: float, last: int) -> Ints:
    """Sample sizes at which counts are looked at: `first`, times `growth` each, and `last` at the end."""
    sizes = [min(first, last)]
    while sizes[-1] < last:
        sizes.append(min(last, max(sizes[-1] + 1, math.ceil(sizes[-1] * growth))))
    return np.array(sizes, dtype=np.int64)


def spending(alpha: float, count: int) -> Floats:
    """alpha for each of `count` looks, in sum `alpha`: half for the last, the rest in equal parts (Bonferroni)."""
    if count == 1:
        return np.array([alpha])
    return np.append(np.full(count - 1, alpha / 2 / (count - 1)), alpha / 2)


def floor(share: float, null: float, alpha: float) -> float:
    """Draws that any sequential test needs on average to reject p ≤ null at p = share (Wald 1945): ln(1/alpha)/KL."""
    if share <= null:
        return math.inf
    rest = 0.0 if share == 1 else (1 - share) * math.log((1 - share) / (1 - null))
    return -math.log(alpha) / (share * math.log(share / null) + rest)
