"""Mahalanobis: how far an input's features lie from every class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Verdict
from robustkit.detectors.features import features, reading, threshold
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class Mahalanobis:
    """Lee et al. 2018 (https://arxiv.org/abs/1807.03888): class means and one covariance of what the last linear
    layer is given, fitted to one half of the clean images; the threshold comes from the other half.

    Score: the smallest squared Mahalanobis distance to a class. Departures: one layer and no noise on the input, so
    nothing has to be fitted to attacks; the covariance is drawn towards its mean diagonal, since clean images are few.

    Fields:
        shrink: weight of the mean diagonal in the covariance.
        fpr: share of clean images above the threshold.

    Scope: input; `data.test` holds what is judged. Cost: a forward pass an input and a clean image.
    """

    shrink: float = param(0.1, "weight of the mean diagonal in the covariance", low=1e-6, high=1.0)
    fpr: float = param(0.05, "share of clean images above the threshold", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        clean, _, labels = features(model, data.val, "mahalanobis")
        judged, _, _ = features(model, data.test, "mahalanobis")
        half = torch.zeros(len(clean), dtype=torch.bool)
        half[labels.argsort(stable=True)[::2]] = True  # every second image of each class
        if not all(bool((labels[half] == k).any()) for k in torch.unique(labels)):
            raise UsageError(f"mahalanobis needs two clean images of each class; {data.name} has {len(clean)} in all")
        means, precision = fit(clean[half], labels[half], self.shrink)
        limit = threshold(distance(clean[~half], means, precision), self.fpr)
        score = distance(judged, means, precision)
        return Verdict(
            score=score, flagged=score > limit, limit=limit, cost={"forwards": float(len(clean) + len(judged))}
        )

    def suspicion(self, model: nn.Module, clean: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """The score as a function that gradients pass, (N, C, H, W) → (N,), fitted to clean images and their labels."""

        def rows(x: Tensor) -> Tensor:
            with reading(model) as given:
                model(x)
            if not given:
                raise UsageError("mahalanobis: the network has no linear layer whose input could be read")
            return torch.cat(given).double()

        with torch.no_grad():
            means, precision = fit(rows(clean), labels, self.shrink)
        return lambda x: distance(rows(x), means, precision)


def fit(rows: Tensor, labels: Tensor, shrink: float) -> tuple[Tensor, Tensor]:
    """Class means (K', D) and the inverse of the shared, shrunk covariance (D, D)."""
    known = torch.unique(labels)
    means = torch.stack([rows[labels == k].mean(dim=0) for k in known])
    centred = rows - means[torch.searchsorted(known, labels)]
    covariance = centred.T @ centred / len(rows)
    diagonal = covariance.diagonal().mean().clamp_min(1e-12)
    covariance = (1 - shrink) * covariance + shrink * diagonal * torch.eye(len(covariance)).to(rows)
    return means, torch.linalg.inv(covariance)


def distance(rows: Tensor, means: Tensor, precision: Tensor) -> Tensor:
    """(N,) smallest squared Mahalanobis distance to a mean."""
    difference = rows[:, None] - means[None]
    return torch.einsum("nkd,de,nke->nk", difference, precision, difference).amin(dim=1)
