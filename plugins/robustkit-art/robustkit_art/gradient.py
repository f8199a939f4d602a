"""ART's fixed-budget attacks along the gradient: FGSM, BIM, PGD in three implementations, MI-FGSM.

Where no step is given, it is a third of eps, the ratio of ART's own defaults (0.1 and 0.3). The last iterate is
returned. l1 is not offered: ART's step in l1 moves the single largest value, which the box then cuts, so that a
fraction of the budget is used. Cost: `steps` forward and backward passes, times the starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustkit.params import check, param
from robustkit_art.bridge import ORDER, budget, evasion, minimal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

STEP = "length of a step (eps_step); none is eps / 3"
TARGETED = "move towards the given class"
STARTS = "random starts (num_random_init), each on what still stands; 0 starts once, from the input"


def step_of(step_size: float | None, threat: Threat) -> float:
    """The step given, or ART's share of eps."""
    return threat.eps / 3 if step_size is None else step_size


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """One step of eps (`FastGradientMethod`): the sign in linf, the normalised gradient in l2."""

    restarts: int = param(0, STARTS, low=0)
    targeted: bool = param(False, TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(
            lambda estimator: evasion.FastGradientMethod(
                estimator,
                norm=ORDER[threat.norm],
                eps=threat.eps,
                targeted=self.targeted,
                num_random_init=min(self.restarts, 1),
                batch_size=len(x),
            ),
            model,
            x,
            y,
            threat,
            runs=max(self.restarts, 1),
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class FGSMMinimal:
    """The smallest multiple of a step along one gradient that fools the model (`FastGradientMethod(minimal=True)`).

    Cost: one forward and backward pass for each multiple.
    """

    step_size: float = param(0.01, "smallest perturbation, and distance of two (eps_step)", unit="input units", low=0.0)
    largest: float = param(0.3, "largest perturbation tried (eps)", unit="input units", low=0.0)
    targeted: bool = param(False, TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.FastGradientMethod(
                estimator,
                norm=ORDER[threat.norm],
                eps=self.largest,
                eps_step=self.step_size,
                targeted=self.targeted,
                batch_size=len(x),
                minimal=True,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class BIM:
    """Steps of the sign from the clean input (`BasicIterativeMethod`)."""

    steps: int = param(100, "iterations (max_iter)", low=1)
    step_size: float | None = param(None, STEP, unit="input units", low=0.0)
    targeted: bool = param(False, TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(
            lambda estimator: evasion.BasicIterativeMethod(
                estimator,
                eps=threat.eps,
                eps_step=step_of(self.step_size, threat),
                max_iter=self.steps,
                targeted=self.targeted,
                batch_size=len(x),
                verbose=False,
            ),
            model,
            x,
            y,
            threat,
        )


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent on tensors (`ProjectedGradientDescent`, `ProjectedGradientDescentPyTorch`)."""

    steps: int = param(100, "iterations (max_iter)", low=1)
    step_size: float | None = param(None, STEP, unit="input units", low=0.0)
    restarts: int = param(0, STARTS, low=0)
    decay: float | None = param(None, "momentum; none is off", low=0.0)
    random_eps: bool = param(False, "draw eps from a truncated normal distribution on [0, eps]")
    targeted: bool = param(False, TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(
            lambda estimator: evasion.ProjectedGradientDescent(
                estimator,
                norm=ORDER[threat.norm],
                eps=threat.eps,
                eps_step=step_of(self.step_size, threat),
                decay=self.decay,
                max_iter=self.steps,
                targeted=self.targeted,
                num_random_init=min(self.restarts, 1),
                batch_size=len(x),
                random_eps=self.random_eps,
                verbose=False,
            ),
            model,
            x,
            y,
            threat,
            runs=max(self.restarts, 1),
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class PGDNumpy:
    """Projected gradient descent on arrays (`ProjectedGradientDescentNumpy`); the same steps, slower."""

    steps: int = param(100, "iterations (max_iter)", low=1)
    step_size: float | None = param(None, STEP, unit="input units", low=0.0)
    restarts: int = param(0, STARTS, low=0)
    decay: float | None = param(None, "momentum; none is off", low=0.0)
    random_eps: bool = param(False, "draw eps from a truncated normal distribution on [0, eps]")
    targeted: bool = param(False, TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(
            lambda estimator: evasion.ProjectedGradientDescentNumpy(
                estimator,
                norm=ORDER[threat.norm],
                eps=threat.eps,
                eps_step=step_of(self.step_size, threat),
                decay=self.decay,
                max_iter=self.steps,
                targeted=self.targeted,
                num_random_init=min(self.restarts, 1),
                batch_size=len(x),
                random_eps=self.random_eps,
                verbose=False,
            ),
            model,
            x,
            y,
            threat,
            runs=max(self.restarts, 1),
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class MIFGSM:
    """Steps along a running sum of gradients (`MomentumIterativeMethod`)."""

    steps: int = param(100, "iterations (max_iter)", low=1)
    step_size: float | None = param(None, STEP, unit="input units", low=0.0)
    decay: float = param(1.0, "weight of the sum so far", low=0.0)
    targeted: bool = param(False, TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(
            lambda estimator: evasion.MomentumIterativeMethod(
                estimator,
                norm=ORDER[threat.norm],
                eps=threat.eps,
                eps_step=step_of(self.step_size, threat),
                decay=self.decay,
                max_iter=self.steps,
                targeted=self.targeted,
                batch_size=len(x),
                verbose=False,
            ),
            model,
            x,
            y,
            threat,
        )
