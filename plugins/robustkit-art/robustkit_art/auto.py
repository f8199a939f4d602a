"""ART's attacks that set their step themselves: Auto-PGD, Auto conjugate gradient, its rescaling variant.

ART returns the last iterate of a run, not the best one that it keeps meanwhile. Auto conjugate gradient is
offered in l2 alone: in linf ART computes the sign of the direction and then steps along the direction itself.
Cost: (`steps` + 1) forward and `steps` backward passes a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from robustkit.params import UsageError, check, param
from robustkit_art.bridge import ORDER, budget, evasion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

Loss = Literal["cross_entropy", "difference_logits_ratio"]
_LOSS = "what is maximised; the ratio needs at least 3 classes"
_STEP = "first length of a step (eps_step); none is 2 eps, as in the paper"
_RESTARTS = "random starts (nb_random_init), each on what still stands"
_TARGETED = "move towards the given class"


@dataclass(frozen=True, kw_only=True)
class APGD:
    """Auto-PGD (`AutoProjectedGradientDescent`): momentum, and a step that is halved where progress stops."""

    steps: int = param(100, "iterations (max_iter)", low=2)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    restarts: int = param(5, _RESTARTS, low=1)
    loss_type: Loss = param("cross_entropy", _LOSS)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return _run(evasion.AutoProjectedGradientDescent, self, model, x, y, threat)


@dataclass(frozen=True, kw_only=True)
class ACG:
    """Auto conjugate gradient (`AutoConjugateGradient`), l2 only."""

    steps: int = param(100, "iterations (max_iter)", low=2)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    restarts: int = param(5, _RESTARTS, low=1)
    loss_type: Loss = param("cross_entropy", _LOSS)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return _run(evasion.AutoConjugateGradient, self, model, x, y, threat)


@dataclass(frozen=True, kw_only=True)
class RACG:
    """Auto conjugate gradient with a rescaled direction (`RescalingAutoConjugateGradient`), l2 only."""

    steps: int = param(100, "iterations (max_iter)", low=2)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    restarts: int = param(5, _RESTARTS, low=1)
    loss_type: Loss = param("cross_entropy", _LOSS)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return _run(evasion.RescalingAutoConjugateGradient, self, model, x, y, threat)


def _run(attack: Any, how: APGD | ACG | RACG, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """The three share their parameters."""
    if how.loss_type == "difference_logits_ratio" and len(x):
        with torch.no_grad():
            classes = int(model(x[:1]).shape[1])
        if classes < 3:
            raise UsageError(
                f"loss_type=difference_logits_ratio needs at least 3 classes and the model has {classes}; "
                "use loss_type=cross_entropy"
            )
    return budget(
        lambda estimator: attack(
            estimator,
            norm=ORDER[threat.norm],
            eps=threat.eps,
            eps_step=2 * threat.eps if how.step_size is None else how.step_size,
            max_iter=how.steps,
            targeted=how.targeted,
            nb_random_init=1,
            batch_size=len(x),
            loss_type=how.loss_type,
            verbose=False,
        ),
        model,
        x,
        y,
        threat,
        runs=how.restarts,
        targeted=how.targeted,
    )
