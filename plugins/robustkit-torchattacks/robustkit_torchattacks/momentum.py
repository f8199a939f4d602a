"""torchattacks' attacks with momentum on the normalised gradient.

All of them divide the gradient by the mean of its absolute values: where it is once exactly 0, the momentum is
NaN, its sign 0, and the sample stays where it is for the rest of the search. `step_size` is the library's
`alpha`; cost: `steps` forward and backward passes unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import check, param
from robustkit_torchattacks.gradient import STEP_HELP, quarter
from robustkit_torchattacks.library import run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class MIFGSM:
    """Momentum iterative FGSM (`torchattacks.MIFGSM`): g ← decay g + ∇ / mean|∇|, step along sign(g)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    decay: float = param(1.0, "momentum", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.MIFGSM(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                decay=self.decay,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class NIFGSM:
    """Nesterov momentum: the gradient is taken where the momentum leads (`torchattacks.NIFGSM`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    decay: float = param(1.0, "momentum", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.NIFGSM(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                decay=self.decay,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class SINIFGSM:
    """NI-FGSM averaged over copies of the image scaled by 1, 1/2, 1/4 … (`torchattacks.SINIFGSM`).

    Cost: `steps` × `m` forward and backward passes.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    decay: float = param(1.0, "momentum", low=0.0)
    m: int = param(5, "scaled copies", low=1)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.SINIFGSM(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                decay=self.decay,
                m=self.m,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class VMIFGSM:
    """MI-FGSM with the gradient tuned by its variance in the neighbourhood (`torchattacks.VMIFGSM`).

    Cost: `steps` × (1 + `N`) forward and backward passes.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    decay: float = param(1.0, "momentum", low=0.0)
    N: int = param(5, "neighbours that the variance is taken over", low=1)
    beta: float = param(1.5, "radius of the neighbourhood, in eps", unit="eps", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.VMIFGSM(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                decay=self.decay,
                N=self.N,
                beta=self.beta,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class VNIFGSM:
    """NI-FGSM with the gradient tuned by its variance in the neighbourhood (`torchattacks.VNIFGSM`).

    Cost: `steps` × (1 + `N`) forward and backward passes.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    decay: float = param(1.0, "momentum", low=0.0)
    N: int = param(5, "neighbours that the variance is taken over", low=1)
    beta: float = param(1.5, "radius of the neighbourhood, in eps", unit="eps", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.VNIFGSM(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                decay=self.decay,
                N=self.N,
                beta=self.beta,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )
