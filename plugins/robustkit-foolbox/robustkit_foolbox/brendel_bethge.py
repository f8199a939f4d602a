"""Brendel and Bethge's attack, which follows the boundary with a solver that numba compiles."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba  # noqa: F401 - foolbox tells of a missing numba only when the attack is built

from robustkit.params import check, param
from robustkit_foolbox.bridge import attacks, minimal
from robustkit_foolbox.start import walk

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

BY_NORM = {
    "linf": attacks.LinfinityBrendelBethgeAttack,
    "l2": attacks.L2BrendelBethgeAttack,
    "l1": attacks.L1BrendelBethgeAttack,
    "l0": attacks.L0BrendelBethgeAttack,
}


@dataclass(frozen=True, kw_only=True)
class BrendelBethge:
    """Along the boundary, the nearest point within a trust region at each step (`BrendelBethgeAttack`).

    The library multiplies the trust region by the size of the batch; here each sample is attacked alone.
    The first call of a process compiles the solver, which takes about half a minute.
    Cost: `steps` forward and backward passes and one problem of the solver for each step and sample.
    """

    steps: int = param(1000, "iterations", low=1)
    step_size: float = param(1e-3, "first radius of the trust region (lr), as a share of the number of values")
    overshoot: float = param(1.1, "factor by which the boundary is overstepped", low=1.0)
    lr_decay: float = param(0.5, "factor on the radius at each decay", low=0.0, high=1.0)
    lr_num_decay: int = param(20, "decays", low=1)
    momentum: float = param(0.8, "of the estimated boundary", low=0.0, high=1.0)
    binary_search_steps: int = param(10, "halvings between the start and the input", low=1)
    targeted: bool = param(False, "look for the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        def search(network: Any, part: Tensor, goal: Any) -> Tensor:
            with warnings.catch_warnings():
                # the library announces the compilation, numba reflected lists, numpy 0 / 0 in the line search
                warnings.simplefilter("ignore")
                attack = BY_NORM[threat.norm](
                    overshoot=self.overshoot,
                    steps=self.steps,
                    lr=self.step_size,
                    lr_decay=self.lr_decay,
                    lr_num_decay=self.lr_num_decay,
                    momentum=self.momentum,
                    binary_search_steps=self.binary_search_steps,
                )
                return walk(attack, network, part, goal, alone=True)

        return minimal(search, model, x, y, targeted=self.targeted)
