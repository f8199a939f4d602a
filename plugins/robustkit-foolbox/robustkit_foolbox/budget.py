"""foolbox's other fixed-budget attacks: sparse steps in l1, virtual adversarial, a genetic search, contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustkit.params import ParamError, UsageError, check, param
from robustkit_foolbox.bridge import attacks, budget

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class SparseL1Descent:
    """Steps that move the few values with the largest gradient (`SparseL1DescentAttack`).

    The raw result lies outside of the ball; it is projected. Cost: `steps` forward and backward passes.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(
        None, "length of a step (abs_stepsize); none is rel_stepsize x eps", unit="input units", low=0.0
    )
    rel_stepsize: float = param(0.2, "length of a step as a share of eps", low=0.0)
    quantile: float = param(0.99, "share of values that a step leaves alone", low=0.0, high=1.0)
    random_start: bool = param(False, "start at a random point of the ball")
    restarts: int = param(1, "runs; a later one attacks what still stands", low=1)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.SparseL1DescentAttack(
            quantile=self.quantile,
            rel_stepsize=self.rel_stepsize,
            abs_stepsize=self.step_size,
            steps=self.steps,
            random_start=self.random_start,
        )
        return budget(attack, model, x, y, threat, targeted=self.targeted, restarts=self.restarts)


@dataclass(frozen=True, kw_only=True)
class VAT:
    """The direction in which the prediction changes fastest (`VirtualAdversarialAttack`); labels are unused.

    The gradient of a divergence at a distance of `xi`: with the library's xi = 1e-6 float32 rounds it to 0 on
    confident samples, and 0 / 0 gave NaN. Departs from the library: xi = 1e-2 by default, and a direction that is
    still 0 is an error that says so. Cost: `steps` forward and backward passes and two forward passes.
    """

    steps: int = param(3, "power iterations", low=1)
    xi: float = param(1e-2, "distance at which the divergence is taken", unit="input units", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = _Finite(attacks.VirtualAdversarialAttack(steps=self.steps, xi=self.xi), self.xi)
        return budget(attack, model, x, y, threat)


@dataclass(frozen=True)
class _Finite:
    """VAT with its two numerical failures told apart from a result."""

    attack: object
    xi: float

    def run(self, network: object, x: Tensor, goal: object, *, epsilon: float) -> Tensor:
        message = (
            f"foolbox's VirtualAdversarialAttack found no direction at xi={self.xi:g}: the divergence is rounded "
            "to 0 where the network is certain of its class; raise xi, or use pgd"
        )
        try:
            found: Tensor = self.attack.run(network, x, goal, epsilon=epsilon)  # type: ignore[attr-defined]
        except RuntimeError as error:
            raise UsageError(message) if "Gradient vanished" in str(error) else error from None
        if not bool(torch.isfinite(found).all()):
            raise UsageError(message)
        return found


@dataclass(frozen=True, kw_only=True)
class GenAttack:
    """A genetic search on scores (`GenAttack`), which the library offers towards a target only.

    Untargeted, it aims at each sample's second most likely class. Cost: `steps` x `population` forward passes.
    """

    steps: int = param(1000, "generations", low=1)
    population: int = param(10, "members of a generation", low=2)
    mutation_probability: float = param(0.1, "least probability of a mutation", low=0.0, high=1.0)
    mutation_range: float = param(0.15, "least range of a mutation as a share of eps", low=0.0, high=1.0)
    sampling_temperature: float = param(0.3, "of the choice of parents", low=1e-6)
    reduced_dims: tuple[int, ...] = param((), "height and width of the noise before upscaling; none is all")
    targeted: bool = param(False, "move towards the given class, not the second most likely")

    def __post_init__(self) -> None:
        check(self)
        if len(self.reduced_dims) not in (0, 2):
            raise ParamError(f"GenAttack: reduced_dims={self.reduced_dims} must be height+width, e.g. 14+14")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if not self.targeted:
            with torch.no_grad():
                y = model(x).scatter(1, y.long().unsqueeze(1), float("-inf")).argmax(dim=1)  # (N,)
        attack = attacks.GenAttack(
            steps=self.steps,
            population=self.population,
            mutation_probability=self.mutation_probability,
            mutation_range=self.mutation_range,
            sampling_temperature=self.sampling_temperature,
            reduced_dims=self.reduced_dims or None,
        )
        return budget(attack, model, x, y, threat, targeted=True)


@dataclass(frozen=True, kw_only=True)
class ContrastReduction:
    """Moves the image towards grey by exactly eps (`L2ContrastReductionAttack`); the model is not asked."""

    target: float = param(0.5, "the grey", unit="input units", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(attacks.L2ContrastReductionAttack(target=self.target), model, x, y, threat)
