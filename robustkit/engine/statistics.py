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


def auroc_interval(area: float, positive: int, negative: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of an area under the ROC curve (Newcombe 2006, Stat. Med. 25, 559, method 5).

    The areas θ with |θ - area| ≤ z σ(θ), σ that of Hanley & McNeil 1982 for exponential scores with both numbers of
    samples set to their mean in the two larger terms. Like Wilson's it stays in [0, 1] and is not empty at 0 or 1.

    Args:
        area: observed, between 0 and 1.
        positive, negative: samples on each side, at least 1.
        level: coverage, between 0 and 1.

    Raises:
        ValueError: an area that is none, no samples, or a level that is no share.
    """
    if not 0 <= area <= 1 or positive < 1 or negative < 1:
        raise ValueError(
            f"area={area} of {positive} and {negative} samples must be in [0, 1], with samples on both sides"
        )
    z, more = _quantile(level), (positive + negative) / 2 - 1

    def outside(theta: float) -> bool:
        spread = 1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)
        return (theta - area) ** 2 > z * z * theta * (1 - theta) * spread / (positive * negative)

    ends = []
    for far in (0.0, 1.0):
        inside, out = area, far
        for _ in range(60):  # bisection
            middle = (inside + out) / 2
            inside, out = (inside, middle) if outside(middle) else (middle, out)
        ends.append(inside)
    return ends[0], ends[1]


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1; 95 % is 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)
