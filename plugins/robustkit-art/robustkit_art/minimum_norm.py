"""ART's minimum-norm attacks along the gradient. A sample for which nothing was found comes back unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robustkit.params import check, param
from robustkit_art.bridge import evasion, minimal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_TARGETED = "look for the given class"


@dataclass(frozen=True, kw_only=True)
class CW:
    """Carlini and Wagner's l2 attack in tanh space (`CarliniL2Method`).

    Cost: up to `steps` x `binary_search_steps` passes and those of the line search.
    """

    steps: int = param(10, "iterations for each constant (max_iter)", low=1)
    step_size: float = param(0.01, "of the descent (learning_rate)", low=0.0)
    binary_search_steps: int = param(10, "constants tried", low=1)
    confidence: float = param(0.0, "margin asked for", unit="logits", low=0.0)
    initial_const: float = param(0.01, "first weight of the misclassification", low=0.0)
    max_halving: int = param(5, "halvings in the line search", low=1)
    max_doubling: int = param(5, "doublings in the line search", low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.CarliniL2Method(
                estimator,
                confidence=self.confidence,
                targeted=self.targeted,
                learning_rate=self.step_size,
                binary_search_steps=self.binary_search_steps,
                max_iter=self.steps,
                initial_const=self.initial_const,
                max_halving=self.max_halving,
                max_doubling=self.max_doubling,
                batch_size=len(x),
                verbose=False,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class CWLinf:
    """Carlini and Wagner's linf attack (`CarliniLInfMethod`): a bound that shrinks while the attack succeeds.

    ART's targeted mode keeps a point only where the prediction is not the target, and is not offered.
    Cost: many thousand forward and backward passes a sample, one sample at a time.
    """

    steps: int = param(10, "iterations for each weight (max_iter)", low=1)
    step_size: float = param(0.01, "of the descent (learning_rate)", low=0.0)
    confidence: float = param(0.0, "margin asked for", unit="logits", low=0.0)
    decrease_factor: float = param(0.9, "factor by which the bound shrinks", low=1e-3, high=0.999)
    initial_const: float = param(1e-5, "first weight of the misclassification", low=0.0)
    largest_const: float = param(20.0, "largest weight", low=0.0)
    const_factor: float = param(2.0, "factor by which the weight grows", low=1.001)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.CarliniLInfMethod(
                estimator,
                confidence=self.confidence,
                targeted=False,
                learning_rate=self.step_size,
                max_iter=self.steps,
                decrease_factor=self.decrease_factor,
                initial_const=self.initial_const,
                largest_const=self.largest_const,
                const_factor=self.const_factor,
                batch_size=1,
                verbose=False,
            ),
            model,
            x,
            y,
        )


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """Steps to the nearest boundary of the linearised model (`DeepFool`), from the predicted class.

    Cost: up to `steps` forward passes and `steps` x `nb_grads` backward passes.
    """

    steps: int = param(100, "iterations (max_iter)", low=1)
    overshoot: float = param(1e-6, "share by which the boundary is overstepped (epsilon)", low=0.0)
    nb_grads: int = param(10, "most likely classes looked at", low=2)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.DeepFool(
                estimator,
                max_iter=self.steps,
                epsilon=self.overshoot,
                nb_grads=self.nb_grads,
                batch_size=len(x),
                verbose=False,
            ),
            model,
            x,
            y,
            beyond=True,
        )


@dataclass(frozen=True, kw_only=True)
class NewtonFool:
    """Newton steps that lower the probability of the predicted class (`NewtonFool`).

    ART takes the model's outputs for probabilities, so it gets them. Cost: `steps` forward and backward passes.
    """

    steps: int = param(100, "iterations (max_iter)", low=1)
    step_size: float = param(0.01, "share of the input's norm that a step may move (eta)", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.NewtonFool(
                estimator, max_iter=self.steps, eta=self.step_size, batch_size=len(x), verbose=False
            ),
            model,
            x,
            y,
            probabilities=True,
        )


@dataclass(frozen=True, kw_only=True)
class EAD:
    """Elastic-net attack: l1 and l2 penalised together (`ElasticNet`).

    Cost: up to `steps` x `binary_search_steps` forward and backward passes.
    """

    steps: int = param(100, "iterations for each constant (max_iter)", low=1)
    step_size: float = param(0.01, "first length of a step (learning_rate)", low=0.0)
    binary_search_steps: int = param(9, "constants tried", low=1)
    confidence: float = param(0.0, "margin asked for", unit="logits", low=0.0)
    initial_const: float = param(1e-3, "first weight of the misclassification", low=0.0)
    beta: float = param(1e-3, "weight of the l1 norm", low=0.0)
    decision_rule: Literal["EN", "L1", "L2"] = param("EN", "what makes an example better")
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.ElasticNet(
                estimator,
                confidence=self.confidence,
                targeted=self.targeted,
                learning_rate=self.step_size,
                binary_search_steps=self.binary_search_steps,
                max_iter=self.steps,
                beta=self.beta,
                initial_const=self.initial_const,
                batch_size=len(x),
                decision_rule=self.decision_rule,
                verbose=False,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class JSMA:
    """Moves the two most salient values at a time (`SaliencyMapMethod`), towards a class.

    ART takes `y` for the target whatever is asked; untargeted it gets none and draws a target at random.
    Cost: one forward and backward pass for each pair of values.
    """

    theta: float = param(0.1, "change of a value a step; negative darkens", unit="input units", low=-1.0, high=1.0)
    gamma: float = param(1.0, "largest share of values that are changed", low=1e-6, high=1.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.SaliencyMapMethod(
                estimator, theta=self.theta, gamma=self.gamma, batch_size=len(x), verbose=False
            ),
            model,
            x,
            y,
            targeted=self.targeted,
            labelled=self.targeted,
        )
