"""torchattacks' two attacks that ask the model nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import check, param
from robustkit_torchattacks.library import run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class Vanila:
    """The input itself (`torchattacks.VANILA`): clean accuracy as an attack. Cost: none."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(lambda network, seed: torchattacks.VANILA(network), model, x, y)


@dataclass(frozen=True, kw_only=True)
class GN:
    """Gaussian noise, clipped to the box (`torchattacks.GN`): x + std n, n ~ N(0, 1).

    It has no budget: `threat.eps` is ignored and the result is scored by its distance. Cost: none.
    """

    std: float = param(0.1, "standard deviation of the noise", unit="input units", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(lambda network, seed: torchattacks.GN(network, std=self.std), model, x, y)
