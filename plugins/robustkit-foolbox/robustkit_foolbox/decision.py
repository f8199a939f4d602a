"""foolbox's attacks that walk along the decision boundary with nothing but the predicted class.

They start from an adversarial point (see `start.py`); a sample for which none is found comes back unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch

from robustkit.params import check, param
from robustkit_foolbox.bridge import attacks, minimal
from robustkit_foolbox.start import walk

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_TARGETED = "look for the given class"


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """A random walk on the boundary (`BoundaryAttack`). Samples of a batch share their random directions.

    Cost: about 1.1 x `steps` forward passes and those of the start.
    """

    steps: int = param(25000, "steps of the walk", low=1)
    spherical_step: float = param(1e-2, "first step along the sphere, as a share of the distance", low=0.0)
    source_step: float = param(1e-2, "first step towards the input, as a share of the distance", low=0.0)
    source_step_convergence: float = param(1e-7, "source step at which the walk ends", low=0.0)
    step_adaptation: float = param(1.5, "factor by which steps change", low=1.0)
    update_stats_every_k: int = param(10, "steps between two looks at the success rate", low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.BoundaryAttack(
            steps=self.steps,
            spherical_step=self.spherical_step,
            source_step=self.source_step,
            source_step_convergance=self.source_step_convergence,
            step_adaptation=self.step_adaptation,
            update_stats_every_k=self.update_stats_every_k,
        )
        return minimal(partial(walk, attack), model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class HopSkipJump:
    """Estimates the gradient at the boundary from decisions (`HopSkipJumpAttack`), in l2 or linf.

    In l2 the library divides a gradient by the norm of the whole batch's gradients, so that steps shrink with the
    batch, and its grid search takes one step for the whole batch; there each sample is attacked alone.
    Cost: about `initial_gradient_eval_steps` x `steps`^1.5 forward passes.
    """

    steps: int = param(64, "iterations", low=1)
    initial_gradient_eval_steps: int = param(100, "queries for the first estimate", low=1)
    max_gradient_eval_steps: int = param(10000, "most queries for one estimate", low=1)
    stepsize_search: Literal["geometric_progression", "grid_search"] = param(
        "geometric_progression", "how a step is chosen"
    )
    gamma: float = param(1.0, "precision of the search for the boundary", low=0.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.HopSkipJumpAttack(
            steps=self.steps,
            initial_gradient_eval_steps=self.initial_gradient_eval_steps,
            max_gradient_eval_steps=self.max_gradient_eval_steps,
            stepsize_search=self.stepsize_search,
            gamma=self.gamma,
            constraint=threat.norm,
        )
        alone = threat.norm == "l2" or self.stepsize_search == "grid_search"
        return minimal(partial(walk, attack, alone=alone), model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class Pointwise:
    """Takes back one value after another (`PointwiseAttack`); in l2 the values left are then halved towards x.

    Cost: several forward passes for each value that the starting point changes.
    """

    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.PointwiseAttack(l2_binary_search=threat.norm == "l2")
        return minimal(partial(walk, attack), model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class SaltAndPepper:
    """Ever more black and white pixels (`SaltAndPepperNoiseAttack`), the nearest that fools. Cost: `steps` passes."""

    steps: int = param(1000, "draws", low=1)
    across_channels: bool = param(True, "the same pixels in all channels")
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.SaltAndPepperNoiseAttack(steps=self.steps, across_channels=self.across_channels)
        return minimal(attack.run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Another sample of the same batch that fools the model (`DatasetAttack`), the first of a random order.

    The library's attack is fed with the batch itself, so a batch of one finds nothing.
    Cost: two forward passes.
    """

    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        def search(network: object, part: Tensor, goal: object) -> Tensor:
            attack = attacks.DatasetAttack()
            with torch.no_grad():
                attack.feed(network, part)
            found: Tensor = attack.run(network, part, goal)
            return found

        return minimal(search, model, x, y, targeted=self.targeted)
