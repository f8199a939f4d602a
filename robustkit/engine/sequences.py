"""Intervals for a mean that hold at every look at once, so that one may stop when one likes: confidence sequences."""

from __future__ import annotations

import numpy as np

_BETS = np.geomspace(0.004, 0.996, 48)
"""Shares of the wealth that are staked, each with the same weight."""
_HALVINGS = 20


def mean_limits(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """An interval for the mean of values in [-1, 1], valid at all sample sizes at once.

    Betting (Waudby-Smith & Ramdas 2024, J. R. Stat. Soc. B 86, 1, https://arxiv.org/abs/2010.09686): who stakes a
    share h of the wealth on "the mean is below m" multiplies it by 1 - h + h (1 - x) / (1 - m) at each value x, a
    factor that is never negative, and of mean 1 where m is the mean, given the past. So is the average over many h,
    fixed beforehand (the mixture of their "grid Kelly"; over all h in (0, 1) it is Cover's universal portfolio,
    Orabona & Jun 2024, IEEE Trans. Inf. Theory 70, 436, https://arxiv.org/abs/2110.14099). By Ville's inequality this
    wealth ever reaches 2 / alpha with probability alpha / 2 at most; every m for which it has is excluded. The wealth
    rises with m, so that what remains is bounded by one number, found by bisection and rounded outwards. The other
    side likewise, with 1 - h + h (1 + x) / (1 + m).

    The order of the values does not matter. It is the interval of this sample size alone; the intersection of those
    at several sizes is valid too.

    Args:
        values: (N,) in [-1, 1], independent draws of one distribution, or at least each of the same mean given those
            before it.
        level: probability that the interval holds at every N, between 0 and 1.

    Returns:
        low, high; (-1, 1) without values.

    Raises:
        ValueError: a value outside [-1, 1], or a level that is no share.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1; 95 % is 0.95")
    known, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    if len(known) and not (known[0] >= -1 and known[-1] <= 1):
        raise ValueError(f"values reach from {known[0]:g} to {known[-1]:g}; they must lie in [-1, 1]")
    goal = float(np.log(2 / (1 - level)))
    return -_upper(-known, counts, goal), _upper(known, counts, goal)


def _upper(known: np.ndarray, counts: np.ndarray, goal: float) -> float:
    """The largest mean that the wealth of those who bet on a lower one does not exclude."""
    if not len(known):
        return 1.0
    low, high = float(known @ counts / counts.sum()), 1.0
    if low >= 1.0 or _wealth(known, counts, high - 1e-12) < goal:
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _wealth(known, counts, middle) < goal:
            low = middle
        else:
            high = middle
    return high


def _wealth(known: np.ndarray, counts: np.ndarray, mean: float) -> float:
    """Logarithm of the average wealth of all who bet that the mean is below this one."""
    factors = 1 - _BETS[:, None] + _BETS[:, None] * ((1 - known) / (1 - mean))
    logs = np.log(factors) @ counts
    top = float(logs.max())
    return top + float(np.log(np.exp(logs - top).mean()))
