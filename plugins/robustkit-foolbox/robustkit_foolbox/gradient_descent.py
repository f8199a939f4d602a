"""foolbox's fixed-budget attacks along the gradient: one step or many, plain, with momentum, with Adam.

x ← Π(x + α g), where g is the gradient of the cross-entropy divided by its norm (its sign in linf), and Π clips
to ball and box. In l1 the gradient is divided by its l1 norm, which is not the steepest direction of that ball:
those results are weak (see the entries' notes). The last iterate is returned, not the best.
Cost: `steps` forward and backward passes, times `restarts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustkit.params import check, param
from robustkit_foolbox.bridge import attacks, budget

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Norm, Threat

FAST = {
    "linf": attacks.LinfFastGradientAttack,
    "l2": attacks.L2FastGradientAttack,
    "l1": attacks.L1FastGradientAttack,
}
BASIC = {
    "linf": attacks.LinfBasicIterativeAttack,
    "l2": attacks.L2BasicIterativeAttack,
    "l1": attacks.L1BasicIterativeAttack,
}
PROJECTED = {
    "linf": attacks.LinfProjectedGradientDescentAttack,
    "l2": attacks.L2ProjectedGradientDescentAttack,
    "l1": attacks.L1ProjectedGradientDescentAttack,
}
MOMENTUM = {
    "linf": attacks.LinfMomentumIterativeFastGradientMethod,
    "l2": attacks.L2MomentumIterativeFastGradientMethod,
    "l1": attacks.L1MomentumIterativeFastGradientMethod,
}
ADAM_BASIC = {
    "linf": attacks.LinfAdamBasicIterativeAttack,
    "l2": attacks.L2AdamBasicIterativeAttack,
    "l1": attacks.L1AdamBasicIterativeAttack,
}
ADAM_PROJECTED = {
    "linf": attacks.LinfAdamProjectedGradientDescentAttack,
    "l2": attacks.L2AdamProjectedGradientDescentAttack,
    "l1": attacks.L1AdamProjectedGradientDescentAttack,
}

_STEP = "length of a step (abs_stepsize); none is rel_stepsize x eps"
_TARGETED = "move towards the given class"
_START = "start at a random point of the ball"
_RESTARTS = "runs; a later one attacks what still stands"


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """One step of eps (`FastGradientAttack`): the sign in linf, the normalised gradient in l2 and l1."""

    random_start: bool = param(False, _START)
    restarts: int = param(1, _RESTARTS, low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = FAST[threat.norm](random_start=self.random_start)
        return budget(attack, model, x, y, threat, restarts=self.restarts)


@dataclass(frozen=True, kw_only=True)
class BIM:
    """Steps from the clean input (`BasicIterativeAttack`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    rel_stepsize: float = param(0.2, "length of a step as a share of eps", low=0.0)
    random_start: bool = param(False, _START)
    restarts: int = param(1, _RESTARTS, low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = BASIC[threat.norm](
            rel_stepsize=self.rel_stepsize,
            abs_stepsize=self.step_size,
            steps=self.steps,
            random_start=self.random_start,
        )
        return budget(attack, model, x, y, threat, targeted=self.targeted, restarts=self.restarts)


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Steps from a random start (`ProjectedGradientDescentAttack`).

    The library's own defaults differ by norm: 40 steps of eps / 30 in linf, 50 steps of eps / 40 in l2 and l1.
    They are what none stands for.
    """

    steps: int | None = param(None, "iterations; none is 40 in linf, 50 in l2 and l1", low=1)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    rel_stepsize: float | None = param(
        None, "length of a step as a share of eps; none is 1/30 in linf, 1/40 in l2 and l1", low=0.0
    )
    random_start: bool = param(True, _START)
    restarts: int = param(1, _RESTARTS, low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        steps, rel_stepsize = _usual(threat.norm, self.steps, self.rel_stepsize)
        attack = PROJECTED[threat.norm](
            rel_stepsize=rel_stepsize,
            abs_stepsize=self.step_size,
            steps=steps,
            random_start=self.random_start,
        )
        return budget(attack, model, x, y, threat, targeted=self.targeted, restarts=self.restarts)


@dataclass(frozen=True, kw_only=True)
class MIFGSM:
    """Steps along a running sum of gradients (`MomentumIterativeFastGradientMethod`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    rel_stepsize: float = param(0.2, "length of a step as a share of eps", low=0.0)
    momentum: float = param(1.0, "weight of the sum so far", low=0.0)
    random_start: bool = param(False, _START)
    restarts: int = param(1, _RESTARTS, low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = MOMENTUM[threat.norm](
            momentum=self.momentum,
            rel_stepsize=self.rel_stepsize,
            abs_stepsize=self.step_size,
            steps=self.steps,
            random_start=self.random_start,
        )
        return budget(attack, model, x, y, threat, targeted=self.targeted, restarts=self.restarts)


@dataclass(frozen=True, kw_only=True)
class AdamBIM:
    """BIM whose normalised gradients go through Adam (`AdamBasicIterativeAttack`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    rel_stepsize: float = param(0.2, "length of a step as a share of eps", low=0.0)
    random_start: bool = param(False, _START)
    adam_beta1: float = param(0.9, "decay of Adam's mean", low=0.0, high=1.0)
    adam_beta2: float = param(0.999, "decay of Adam's mean square", low=0.0, high=1.0)
    adam_epsilon: float = param(1e-8, "added to Adam's root mean square", low=0.0)
    restarts: int = param(1, _RESTARTS, low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = ADAM_BASIC[threat.norm](
            rel_stepsize=self.rel_stepsize,
            abs_stepsize=self.step_size,
            steps=self.steps,
            random_start=self.random_start,
            adam_beta1=self.adam_beta1,
            adam_beta2=self.adam_beta2,
            adam_epsilon=self.adam_epsilon,
        )
        return budget(attack, model, x, y, threat, targeted=self.targeted, restarts=self.restarts)


@dataclass(frozen=True, kw_only=True)
class AdamPGD:
    """PGD whose normalised gradients go through Adam (`AdamProjectedGradientDescentAttack`)."""

    steps: int | None = param(None, "iterations; none is 40 in linf, 50 in l2 and l1", low=1)
    step_size: float | None = param(None, _STEP, unit="input units", low=0.0)
    rel_stepsize: float | None = param(
        None, "length of a step as a share of eps; none is 1/30 in linf, 1/40 in l2 and l1", low=0.0
    )
    random_start: bool = param(True, _START)
    adam_beta1: float = param(0.9, "decay of Adam's mean", low=0.0, high=1.0)
    adam_beta2: float = param(0.999, "decay of Adam's mean square", low=0.0, high=1.0)
    adam_epsilon: float = param(1e-8, "added to Adam's root mean square", low=0.0)
    restarts: int = param(1, _RESTARTS, low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        steps, rel_stepsize = _usual(threat.norm, self.steps, self.rel_stepsize)
        attack = ADAM_PROJECTED[threat.norm](
            rel_stepsize=rel_stepsize,
            abs_stepsize=self.step_size,
            steps=steps,
            random_start=self.random_start,
            adam_beta1=self.adam_beta1,
            adam_beta2=self.adam_beta2,
            adam_epsilon=self.adam_epsilon,
        )
        return budget(attack, model, x, y, threat, targeted=self.targeted, restarts=self.restarts)


def _usual(norm: Norm, steps: int | None, rel_stepsize: float | None) -> tuple[int, float]:
    """The library's defaults where none is given."""
    usual_steps, usual_size = (40, 0.01 / 0.3) if norm == "linf" else (50, 0.025)
    return usual_steps if steps is None else steps, usual_size if rel_stepsize is None else rel_stepsize
