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
    """Carlini and Wagner's attacks in tanh space (`CarliniL2Method`, `CarliniLInfMethod`).

    Cost: in l2 up to `steps` x `binary_search_steps` passes and those of the line search; in linf many thousand
    forward passes a sample.
    """

    steps: int = param(10, "iterations for each constant (max_iter)", low=1)
    step_size: float = param(0.01, "of the descent (learning_rate)", low=0.0)
    confidence: float = param(0.0, "margin asked for", unit="logits", low=0.0)
    initial_const: float | None = param(
        None, "first weight of the misclassification; none is 0.01 in l2, 1e-5 in linf", low=0.0
    )
    binary_search_steps: int = param(10, "l2: constants tried", low=1)
    max_halving: int = param(5, "l2: halvings in the line search", low=1)
    max_doubling: int = param(5, "l2: doublings in the line search", low=1)
    decrease_factor: float = param(0.9, "linf: factor by which the bound shrinks", low=0.0, high=1.0)
    largest_const: float = param(20.0, "linf: largest weight", low=0.0)
    const_factor: float = param(2.0, "linf: factor by which the weight grows", low=1.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        def make(estimator: object) -> object:
            if threat.norm == "l2":
                return evasion.CarliniL2Method(
                    estimator,
                    confidence=self.confidence,
                    targeted=self.targeted,
                    learning_rate=self.step_size,
                    binary_search_steps=self.binary_search_steps,
                    max_iter=self.steps,
                    initial_const=0.01 if self.initial_const is None else self.initial_const,
                    max_halving=self.max_halving,
                    max_doubling=self.max_doubling,
                    batch_size=len(x),
                    verbose=False,
                )
            return evasion.CarliniLInfMethod(
                estimator,
                confidence=self.confidence,
                targeted=self.targeted,
                learning_rate=self.step_size,
                max_iter=self.steps,
                decrease_factor=self.decrease_factor,
                initial_const=1e-5 if self.initial_const is None else self.initial_const,
                largest_const=self.largest_const,
                const_factor=self.const_factor,
                batch_size=1,
                verbose=False,
            )

        return minimal(make, model, x, y, targeted=self.targeted)


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
