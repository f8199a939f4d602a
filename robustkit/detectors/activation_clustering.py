"""Activation clustering: a class that falls into a large and a small cluster holds foreign samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist
from torch import nn

from robustkit.contracts import Data, Verdict
from robustkit.detectors.features import features
from robustkit.params import check, param

_SILHOUETTE_AT = 1000


@dataclass(frozen=True, kw_only=True)
class ActivationClustering:
    """Chen et al. 2018 (https://arxiv.org/abs/1811.03728): what the last linear layer is given, projected on
    its first principal components, in two clusters a class (k-means).

    The samples of a class's smaller cluster are flagged where it is smaller than `size` and the silhouette is at least
    `silhouette`; a class whose samples are alike splits in halves that are neither small nor apart.
    Departure: principal instead of independent components, which need no iteration.

    Score of a sample: the silhouette of its class's clustering, negative in the larger cluster.
    Scope: dataset; it reads the training set. Cost: a forward pass a training image.
    """

    components: int = param(10, "principal components", low=1)
    size: float = param(0.4, "share of the class up to which a cluster is small", low=0.0, high=0.5)
    silhouette: float = param(0.25, "from which on two clusters are apart", low=-1.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        found, _, labels = features(model, data.train, "activation_clustering")
        score = torch.zeros(len(labels), dtype=torch.float64)
        flagged = torch.zeros(len(labels), dtype=torch.bool)
        table: list[dict[str, Any]] = []
        for k in range(len(data.classes)):
            members = (labels == k).nonzero().flatten()
            if len(members) < 4:
                continue
            small, apart = two_clusters(found[members].numpy(), self.components)
            share = float(small.mean())
            suspicious = share <= self.size and apart >= self.silhouette
            score[members] = torch.from_numpy(np.where(small, apart, -apart))
            flagged[members] = torch.from_numpy(small & suspicious)
            table.append(
                {
                    "class": k,
                    "score": round(apart, 4),
                    "small": round(share, 4),
                    "suspicious": suspicious,
                }
            )
        named = sorted((row for row in table if row["suspicious"]), key=lambda row: -float(row["score"]))
        return Verdict(
            score=score,
            flagged=flagged,
            table=tuple(table),
            classes=tuple(int(row["class"]) for row in named),
            cost={"forwards": float(len(labels))},
        )


def two_clusters(rows: np.ndarray, components: int) -> tuple[np.ndarray, float]:
    """Which of the samples (N, D) are in the smaller cluster, (N,) bool, and the mean silhouette.

    Of eight starts of k-means the tightest is taken; the silhouette is that of the first thousand samples.
    """
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    points = centred @ axes[: min(components, len(axes))].T
    best, tightest = np.zeros(len(points), dtype=int), np.inf
    for seed in range(8):
        centres, assigned = kmeans2(points, 2, minit="++", seed=seed, missing="warn")
        spread = float(((points - centres[assigned]) ** 2).sum())
        if spread < tightest:
            best, tightest = assigned, spread
    small: np.ndarray = best == (0 if (best == 0).sum() <= (best == 1).sum() else 1)
    return small, mean_silhouette(points[:_SILHOUETTE_AT], small[:_SILHOUETTE_AT])


def mean_silhouette(points: np.ndarray, group: np.ndarray) -> float:
    """(b - a) / max(a, b), averaged: a is the mean distance to one's own cluster, b to the other (Rousseeuw 1987).

    A sample alone in its cluster counts 0. Zero where there is one cluster only.
    """
    if group.all() or not group.any():
        return 0.0
    distance = cdist(points, points)
    own = group[:, None] == group[None, :]
    count = own.sum(axis=1)
    inside = (distance * own).sum(axis=1) / np.maximum(count - 1, 1)
    outside = (distance * ~own).sum(axis=1) / (~own).sum(axis=1)
    values = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-300)
    return float(np.where(count > 1, values, 0).mean())
