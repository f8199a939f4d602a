"""How well a backdoor works: pure functions of predictions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustkit.engine.statistics import wilson


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of samples with its 95 % interval (Wilson 1927); `value` is None where there are no samples."""

    hits: int
    count: int

    @property
    def value(self) -> float | None:
        return self.hits / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.count)


@dataclass(frozen=True, kw_only=True)
class Success:
    """What a trigger does.

    Args:
        asr: attack success rate: triggered images that are taken for the class that the attacker wants.
        ra: robust accuracy: triggered images that are still classified right.
    """

    asr: Share
    ra: Share


def backdoor_success(pred: Tensor, y: Tensor, wanted: Tensor) -> Success:
    """Judge predictions on triggered images, leaving out those that belong to the wanted class anyway.

    Args:
        pred: (N,) int64, predictions on the triggered images.
        y: (N,) int64, their true labels.
        wanted: (N,) int64, what the attacker wants; see `robustkit.poisons.planting.goal`.

    Raises:
        ValueError: lengths that differ.
    """
    if not len(pred) == len(y) == len(wanted):
        raise ValueError(f"{len(pred)} predictions, {len(y)} labels and {len(wanted)} wanted classes must be as many")
    judged = wanted != y
    pred, y, wanted = pred[judged], y[judged], wanted[judged]
    return Success(
        asr=Share(hits=int((pred == wanted).sum()), count=len(y)),
        ra=Share(hits=int((pred == y).sum()), count=len(y)),
    )
