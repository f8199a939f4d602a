"""Spectral signatures: foreign samples stand out along the first singular direction of their class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Verdict
from robustkit.detectors.features import features
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class SpectralSignatures:
    """Tran, Li, Madry 2018 (https://arxiv.org/abs/1811.00636).

    The score of a sample is the squared projection of its centred features on the first right singular vector of its
    class. The paper removes 1.5 times the expected share of poison from every class, poisoned or not; so does
    this, hence it flags something in every class, and the scores tell more than the flags.

    In the table a class's score is the share of its variance in that one direction.
    Scope: dataset; it reads the training set. Cost: a forward pass a training image, and a singular value
    decomposition a class.
    """

    poison: float = param(0.05, "share of poison that is expected in a class", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        found, _, labels = features(model, data.train, "spectral_signatures")
        score = torch.zeros(len(labels), dtype=torch.float64)
        flagged = torch.zeros(len(labels), dtype=torch.bool)
        table: list[dict[str, Any]] = []
        for k in range(len(data.classes)):
            members = (labels == k).nonzero().flatten()
            if len(members) < 2:
                continue
            scores, share = signature(found[members])
            score[members] = scores
            count = min(len(members), round(1.5 * self.poison * len(members)))
            flagged[members[scores.argsort(descending=True, stable=True)[:count]]] = True
            table.append({"class": k, "score": round(share, 4), "flagged": count})
        order = sorted(table, key=lambda row: -float(row["score"]))
        return Verdict(
            score=score,
            flagged=flagged,
            table=tuple(table),
            classes=tuple(int(row["class"]) for row in order[:1]),
            cost={"forwards": float(len(labels))},
        )


def signature(rows: Tensor) -> tuple[Tensor, float]:
    """Squared projections of (N, D) on the first singular vector, (N,), and the share of the variance they hold."""
    centred = rows - rows.mean(dim=0)
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    total = float(values.square().sum())
    return (centred @ axes[0]).square(), float(values[0].square()) / total if total else 0.0
