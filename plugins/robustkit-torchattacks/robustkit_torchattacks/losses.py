"""torchattacks' variants of PGD that differ in the loss or in how a gradient is averaged.

`step_size` is the library's `alpha`, as in `gradient.py`. Cost: `steps` forward and backward passes unless said
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import ParamError, check, param
from robustkit_torchattacks.gradient import STEP_HELP, quarter
from robustkit_torchattacks.library import classes, refuse_negative_logits, require_classes, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class EOTPGD:
    """PGD with the gradient averaged over passes of a randomised network (`torchattacks.EOTPGD`).

    Cost: `steps` × `eot_iter` forward and backward passes.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    eot_iter: int = param(2, "passes that one gradient is averaged over", low=1)
    random_start: bool = param(True, "start at a uniformly random point of the ball")
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.EOTPGD(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                eot_iter=self.eot_iter,
                random_start=self.random_start,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class TPGD:
    """PGD on the divergence from the clean prediction, as in TRADES (`torchattacks.TPGD`); labels are unused."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.TPGD(
                network, eps=threat.eps, alpha=quarter(self.step_size, threat), steps=self.steps
            ),
            model,
            x,
            y,
        )


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """PGD on the distance of scaled, noisy softmax outputs from the label (`torchattacks.Jitter`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    scale: float = param(10.0, "the largest logit is scaled to this before the softmax")
    std: float = param(0.1, "standard deviation of the noise on the outputs", low=0.0)
    random_start: bool = param(True, "start at a uniformly random point of the ball")
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.Jitter(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                scale=self.scale,
                std=self.std,
                random_start=self.random_start,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class UPGD:
    """PGD with momentum, a choice of loss and averaged gradients (`torchattacks.UPGD`).

    The loss margin has CW's fault, and is refused with it: where all logits are negative nothing is attacked.
    A sample whose gradient is once exactly 0, as that of margin is as soon as it is fooled, stays where it is.
    Cost: `steps` × `eot_iter` forward and backward passes.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    random_start: bool = param(False, "start at a uniformly random point of the ball")
    loss: Literal["ce", "margin", "dlr"] = param(
        "ce", "cross-entropy, difference of the two best logits, or its ratio (DLR)"
    )
    decay: float = param(1.0, "momentum", low=0.0)
    eot_iter: int = param(1, "passes that one gradient is averaged over", low=1)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)
        if self.targeted and self.loss == "dlr":
            raise ParamError("targeted=true needs loss=ce: the library's targeted dlr is 0 where y is the target")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if self.loss == "dlr" and len(x):
            require_classes(classes(model, x), 3, "the loss dlr")
        if self.loss == "margin":
            refuse_negative_logits(model, x, "UPGD with the loss margin")
        return run(
            lambda network, seed: torchattacks.UPGD(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                random_start=self.random_start,
                loss=self.loss,
                decay=self.decay,
                eot_iter=self.eot_iter,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )
