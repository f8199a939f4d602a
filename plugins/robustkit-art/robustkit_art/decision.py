"""ART's attacks that ask for the predicted class alone. Where no start is found a sample comes back unchanged.

Random starts are seeded here (see `local.py`). Cost: forward passes, one sample at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from robustkit.params import UsageError, check, param
from robustkit_art.bridge import ORDER, evasion, minimal
from robustkit_art.library import boundary as boundary_module
from robustkit_art.library import geometric_decision_based_attack as geoda_module
from robustkit_art.library import hop_skip_jump as hop_skip_jump_module
from robustkit_art.local import numpy_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_TARGETED = "look for the given class; the start must be a random image of that class"
_INIT = "random images tried as a start (init_size)"


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """A random walk on the boundary (`BoundaryAttack`). Cost: about `steps` x (`sample_size` + 1) or more."""

    steps: int = param(5000, "iterations (max_iter)", low=1)
    delta: float = param(0.01, "first orthogonal step, as a share of the distance", low=0.0)
    source_step: float = param(0.01, "first step towards the input, as a share (epsilon)", low=0.0)
    step_adapt: float = param(0.667, "factor on the steps after failure", low=0.0, high=1.0)
    num_trial: int = param(25, "adaptations of a step in one iteration", low=1)
    sample_size: int = param(20, "candidates at a time", low=1)
    init_size: int = param(100, _INIT, low=1)
    min_step: float = param(0.0, "source step at which the walk ends (min_epsilon)", low=0.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        with numpy_for(boundary_module):
            return minimal(
                lambda estimator: evasion.BoundaryAttack(
                    estimator,
                    targeted=self.targeted,
                    delta=self.delta,
                    epsilon=self.source_step,
                    step_adapt=self.step_adapt,
                    max_iter=self.steps,
                    num_trial=self.num_trial,
                    sample_size=self.sample_size,
                    init_size=self.init_size,
                    min_epsilon=self.min_step,
                    verbose=False,
                ),
                model,
                x,
                y,
                targeted=self.targeted,
                beyond=True,
            )


@dataclass(frozen=True, kw_only=True)
class HopSkipJump:
    """Estimates the gradient at the boundary from decisions (`HopSkipJump`).

    Cost: about `init_eval` x `steps`^1.5 forward passes a sample.
    """

    steps: int = param(50, "iterations (max_iter)", low=1)
    max_eval: int = param(10000, "most queries for one estimate", low=1)
    init_eval: int = param(100, "queries for the first estimate", low=1)
    init_size: int = param(100, _INIT, low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        with numpy_for(hop_skip_jump_module):
            return minimal(
                lambda estimator: evasion.HopSkipJump(
                    estimator,
                    batch_size=max(64, self.init_eval),
                    targeted=self.targeted,
                    norm=ORDER[threat.norm],
                    max_iter=self.steps,
                    max_eval=self.max_eval,
                    init_eval=self.init_eval,
                    init_size=self.init_size,
                    verbose=False,
                ),
                model,
                x,
                y,
                targeted=self.targeted,
                beyond=True,
            )


class _NoStart(Exception):
    """No random image fools the model."""


class _GeoDA(evasion.GeoDA):  # type: ignore[misc]
    """GeoDA whose search for a start ends, and whose failure costs one sample instead of the batch."""

    def _find_random_adversarial(self, x: Any, y: Any) -> Any:
        for draw in range(500):
            moved = x + 0.02 * (draw + 1) * np.random.normal(size=x.shape).astype(np.float32)  # noqa: NPY002
            moved = np.clip(moved, self.clip_min, self.clip_max)
            if self._is_adversarial(moved, y):
                return moved
        raise _NoStart

    def generate(self, x: Any, y: Any = None) -> Any:
        try:
            return super().generate(x, y)
        except _NoStart:
            return x


@dataclass(frozen=True, kw_only=True)
class GeoDA:
    """Estimates the boundary's normal in a subspace of low frequencies (`GeoDA`); square images only.

    ART writes the frequencies into a file of the working directory and reads it back; that is switched off.
    Cost: about `queries` forward passes a sample.
    """

    queries: int = param(4000, "queries a sample (max_iter)", low=500)
    sub_dim: int = param(10, "lowest frequencies a side of the image", low=1)
    bin_search_tol: float = param(0.1, "precision of the search for the boundary", unit="l2", low=1e-6)
    lambda_param: float = param(0.6, "how queries are shared among iterations; 1 is evenly", low=1e-3, high=1.0)
    sigma: float = param(0.0002, "variance of the noise", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if x.shape[2] != x.shape[3]:
            raise UsageError(f"ART's GeoDA needs square images and these are {x.shape[2]} x {x.shape[3]}")

        def make(estimator: object) -> object:
            try:
                return _GeoDA(
                    estimator,
                    norm=ORDER[threat.norm],
                    sub_dim=self.sub_dim,
                    max_iter=self.queries,
                    bin_search_tol=self.bin_search_tol,
                    lambda_param=self.lambda_param,
                    sigma=self.sigma,
                    verbose=False,
                )
            except IndexError:
                raise UsageError(
                    f"ART's GeoDA cannot share queries={self.queries} among iterations; give more, e.g. 2000"
                ) from None

        kept, geoda_module.os = geoda_module.os, SimpleNamespace(path=SimpleNamespace(exists=lambda path: False))
        try:
            with numpy_for(geoda_module):
                return minimal(make, model, x, y, alone=True, beyond=True)
        finally:
            geoda_module.os = kept


@dataclass(frozen=True, kw_only=True)
class SignOPT:
    """Descends on the distance to the boundary along a direction, by the sign of queries (`SignOPTAttack`).

    ART's targeted mode needs an image of the target class from the caller and is not offered.
    Cost: up to `queries` forward passes a sample.
    """

    steps: int = param(1000, "iterations (max_iter)", low=1)
    queries: int = param(20000, "most queries a sample (query_limit)", low=1)
    smoothing: float = param(0.001, "distance at which directions are compared (epsilon)", low=0.0)
    num_trial: int = param(100, "random directions for the start", low=1)
    k: int = param(200, "random directions for one estimate", low=1)
    alpha: float = param(0.2, "first step of the line search", low=0.0)
    beta: float = param(0.001, "tolerance of the line search", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.SignOPTAttack(
                estimator,
                targeted=False,
                epsilon=self.smoothing,
                num_trial=self.num_trial,
                max_iter=self.steps,
                query_limit=self.queries,
                k=self.k,
                alpha=self.alpha,
                beta=self.beta,
                verbose=False,
            ),
            model,
            x,
            y,
            beyond=True,
        )
