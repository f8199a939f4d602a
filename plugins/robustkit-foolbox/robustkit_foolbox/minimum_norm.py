"""foolbox's minimum-norm attacks along the gradient. A sample for which nothing was found comes back unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robustkit.params import check, param
from robustkit_foolbox.bridge import attacks, minimal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

DEEPFOOL = {"linf": attacks.LinfDeepFoolAttack, "l2": attacks.L2DeepFoolAttack}
FMN_BY_NORM = {
    "linf": attacks.LInfFMNAttack,
    "l2": attacks.L2FMNAttack,
    "l1": attacks.L1FMNAttack,
    "l0": attacks.L0FMNAttack,
}
_TARGETED = "look for the given class"


@dataclass(frozen=True, kw_only=True)
class DDN:
    """Direction and norm decoupled (`DDNAttack`): the radius shrinks on success, and grows on failure.

    Cost: `steps` forward and backward passes.
    """

    steps: int = param(100, "iterations", low=1)
    init_epsilon: float = param(1.0, "first radius", unit="input units", low=0.0)
    gamma: float = param(0.05, "factor by which the radius changes", low=0.0, high=1.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.DDNAttack(init_epsilon=self.init_epsilon, steps=self.steps, gamma=self.gamma)
        return minimal(attack.run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class CW:
    """Carlini and Wagner's l2 attack in tanh space (`L2CarliniWagnerAttack`).

    Cost: up to `steps` x `binary_search_steps` forward and backward passes.
    """

    steps: int = param(10000, "iterations for each constant", low=1)
    step_size: float = param(0.01, "of Adam (stepsize)", low=0.0)
    binary_search_steps: int = param(9, "constants tried", low=1)
    confidence: float = param(0.0, "margin asked for", unit="logits", low=0.0)
    initial_const: float = param(1e-3, "first weight of the misclassification", low=0.0)
    abort_early: bool = param(True, "stop where the loss no longer falls")
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.binary_search_steps,
            steps=self.steps,
            stepsize=self.step_size,
            confidence=self.confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )
        return minimal(attack.run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class EAD:
    """Elastic-net attack: l1 and l2 penalised together (`EADAttack`).

    Cost: up to `steps` x `binary_search_steps` forward and backward passes.
    """

    steps: int = param(10000, "iterations for each constant", low=1)
    step_size: float = param(0.01, "first length of a step (initial_stepsize)", low=0.0)
    binary_search_steps: int = param(9, "constants tried", low=1)
    confidence: float = param(0.0, "margin asked for", unit="logits", low=0.0)
    initial_const: float = param(1e-3, "first weight of the misclassification", low=0.0)
    regularization: float = param(0.01, "weight of the l1 norm", low=0.0)
    decision_rule: Literal["EN", "L1"] = param("EN", "what makes an example better: elastic net or l1")
    abort_early: bool = param(True, "stop where the loss no longer falls")
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.EADAttack(
            binary_search_steps=self.binary_search_steps,
            steps=self.steps,
            initial_stepsize=self.step_size,
            confidence=self.confidence,
            initial_const=self.initial_const,
            regularization=self.regularization,
            decision_rule=self.decision_rule,
            abort_early=self.abort_early,
        )
        return minimal(attack.run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """Steps to the nearest boundary of the linearised model (`DeepFoolAttack`).

    Cost: up to `steps` x (`candidates` - 1) forward and backward passes.
    """

    steps: int = param(50, "iterations", low=1)
    candidates: int | None = param(10, "most likely classes looked at; none is all", low=2)
    overshoot: float = param(0.02, "share by which the boundary is overstepped", low=0.0)
    loss: Literal["logits", "crossentropy"] = param("logits", "what is linearised")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = DEEPFOOL[threat.norm](
            steps=self.steps, candidates=self.candidates, overshoot=self.overshoot, loss=self.loss
        )
        return minimal(attack.run, model, x, y)


@dataclass(frozen=True, kw_only=True)
class FMN:
    """Fast minimum-norm attack: steps in a ball that shrinks on success (`FMNAttack`), in every norm.

    Cost: `steps` forward and backward passes.
    """

    steps: int = param(100, "iterations", low=1)
    max_stepsize: float = param(1.0, "first length of a step", unit="input units", low=0.0)
    min_stepsize: float | None = param(None, "last length of a step; none is max_stepsize / 100", low=0.0)
    gamma: float = param(0.05, "first factor by which the radius changes", low=0.0, high=1.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = FMN_BY_NORM[threat.norm](
            steps=self.steps,
            max_stepsize=self.max_stepsize,
            min_stepsize=self.min_stepsize,
            gamma=self.gamma,
        )
        return minimal(attack.run, model, x, y, targeted=self.targeted)
