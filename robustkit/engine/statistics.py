"""Error bars and paired tests for shares of samples."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927, JASA 22, 209).

    Args:
        hits: successes, 0 ≤ hits ≤ count.
        count: trials; 0 gives (0, 1).
        level: coverage, between 0 and 1.

    Raises:
        ValueError: impossible counts, or a level that is no share.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"hits={hits} must be between 0 and count={count}")
    if count == 0:
        return 0.0, 1.0
    z = _quantile(level)
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == count else min(1.0, centre + half)
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of McNemar's test (McNemar 1947, Psychometrika 12, 153).

    Args:
        only_first: samples that only the first model gets right.
        only_second: samples that only the second gets right.
    """
    from scipy.stats import binom  # a second of import that no bench needs

    total = only_first + only_second
    if total == 0:
        return 1.0
    return min(1.0, 2 * float(binom.cdf(min(only_first, only_second), total, 0.5)))


def paired_difference(only_first: int, only_second: int, count: int, level: float = 0.95) -> tuple[float, float, float]:
    """Difference second − first of two shares on the same samples, with its interval.

    The adjusted Wald interval of Bonett & Price 2012 (J. Educ. Behav. Stat. 37, 479), which adds one sample
    to each of the two discordant cells and keeps its coverage when they are small.

    Args:
        only_first: samples that only the first model gets right.
        only_second: samples that only the second gets right.
        count: all samples, those too on which the two agree.
        level: coverage, between 0 and 1.

    Returns:
        difference, low, high.

    Raises:
        ValueError: impossible counts, or a level that is no share.
    """
    if count <= 0 or only_first < 0 or only_second < 0 or only_first + only_second > count:
        raise ValueError(f"{only_first} and {only_second} discordant samples do not fit into {count}")
    z = _quantile(level)
    first, second = (only_first + 1) / (count + 2), (only_second + 1) / (count + 2)
    centre = second - first
    half = z * math.sqrt((first + second - centre * centre) / (count + 2))
    return (only_second - only_first) / count, max(-1.0, centre - half), min(1.0, centre + half)


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1; 95 % is 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)
