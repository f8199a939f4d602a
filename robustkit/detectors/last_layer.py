"""A screen of the last linear layer: does one class's row point away from all others?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robustkit.contracts import Data, Verdict
from robustkit.detectors.calibration import deviations, judge, read_reference
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class LastLayer:
    """Weights alone, in milliseconds: a screen for the other detectors, not a verdict to act on.

    The row of a backdoored class in the last linear layer is pulled away from the rows of all classes it steals from.
    The statistic of class k is minus the mean cosine of its row with the other rows (of the
    kind of the static screens of Fields et al. 2021, https://arxiv.org/abs/2109.02836).

    Fields:
        alpha: p-values up to it flag the model.
        reference: file of scores of clean models, {"last_layer": [...]}.

    Score: how far the most extreme class lies above the median, in scaled median absolute deviations.

    Raises:
        UsageError: the network has no linear layer with a row for each class.
    """

    alpha: float = param(0.05, "p-values up to it flag the model", low=0.0, high=1.0)
    reference: str = param("", "file of scores of clean models")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        clean = read_reference(self.reference, "last_layer") if self.reference else []
        count = len(data.classes)
        layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == count]
        if not layers:
            raise UsageError(f"last_layer: the network has no linear layer with {count} outputs, one for each class")
        rows = layers[-1].weight.detach().double().cpu()
        values = loneliness(rows).numpy()
        above = deviations(values)
        judged = judge(above, above, clean, self.alpha)
        table: list[dict[str, Any]] = [
            {"class": k, "statistic": round(float(values[k]), 5), "index": round(float(above[k]), 3)}
            for k in range(count)
        ]
        return Verdict(
            score=judged.score,
            flagged=judged.flagged,
            table=tuple(table),
            p_value=judged.p_value,
            classes=judged.classes,
            limit=judged.limit,
            by_class=judged.by_class,
            cost={"gradients": 0.0},
            note=judged.note,
        )


def loneliness(rows: torch.Tensor) -> torch.Tensor:
    """(K,) minus the mean cosine of each row (K, D) with the others."""
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    cosine = unit @ unit.T
    mean: torch.Tensor = (cosine.sum(dim=1) - cosine.diagonal()) / max(len(rows) - 1, 1)
    return -mean
