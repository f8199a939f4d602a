"""ART's randomized smoothing as a certifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import beta

from robustkit.contracts import Certificate
from robustkit.params import check, param
from robustkit_art.library import RandomizedSmoothingMixin

if TYPE_CHECKING:
    from torch import Tensor, nn

_AT_ONCE = 512
"""Noisy copies that are in memory at a time; ART makes all of them at once."""


@dataclass(frozen=True, kw_only=True)
class RandomizedSmoothing:
    """Certified l2 radii of the smoothed classifier (`PyTorchRandomizedSmoothing.certify`; Cohen et al. 2019,
    https://arxiv.org/abs/1902.02918).

    The class is the most frequent of n0 noisy copies; its probability is bounded from below, at confidence
    1 - alpha, by Clopper and Pearson's interval from n further copies; radius = sigma times the normal quantile of
    the bound, abstaining below 1/2. ART takes the bound from statsmodels, which it doesn't declare; here it is
    SciPy's quantile of the Beta distribution, the same number.

    Guarantee: for each input by itself, with probability at least 1 - alpha over the noise drawn, the smoothed
    classifier's prediction is constant within the radius in l2. Cost: n0 + n forward passes an input.
    """

    sigma: float = param(0.25, "standard deviation of the noise (scale)", unit="input units", low=1e-9)
    n0: int = param(100, "copies that choose the class (sample_size)", low=1)
    n: int = param(10000, "copies that certify it", low=1)
    alpha: float = param(0.001, "probability that a certificate is wrong", low=1e-12, high=0.5)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
        smoothed = _Smoothed(model, x, self)
        prediction, radius = smoothed.certify(x.detach().cpu().numpy(), n=self.n)
        return Certificate(
            prediction=torch.from_numpy(np.asarray(prediction, np.int64)).reshape(len(x)),
            radius=torch.from_numpy(np.asarray(radius, np.float64)).reshape(len(x)),
            norm="l2",
            guarantee=f"With probability at least {1 - self.alpha:g} over the noise drawn for an input, the "
            f"classifier smoothed with sigma={self.sigma:g} predicts the same within the l2 radius.",
        )


class _Smoothed(RandomizedSmoothingMixin):  # type: ignore[misc]
    """ART's procedure on a PyTorch network."""

    def __init__(self, model: nn.Module, x: Tensor, how: RandomizedSmoothing) -> None:
        super().__init__(sample_size=how.n0, scale=how.sigma, alpha=how.alpha)
        self._model, self._like = model, x

    def _prediction_counts(self, x: Any, n: int | None = None, batch_size: int = 128) -> Any:
        total = self.sample_size if n is None else n
        counts: Any = 0
        for first in range(0, total, _AT_ONCE):
            noisy = self._noisy_samples(x, n=min(_AT_ONCE, total - first))
            with torch.no_grad():
                logits = self._model(torch.from_numpy(noisy).to(self._like.device, self._like.dtype))  # (n, K)
            counts = counts + torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1]).cpu().numpy()
        return counts

    def _lower_confidence_bound(self, n_class_samples: int, n_total_samples: int) -> float:
        if n_class_samples == 0:
            return 0.0
        return float(beta.ppf(self.alpha, n_class_samples, n_total_samples - n_class_samples + 1))

    def _predict_classifier(self, *given: Any, **named: Any) -> Any:
        raise AssertionError("certify counts by itself")

    _fit_classifier = _predict_classifier
