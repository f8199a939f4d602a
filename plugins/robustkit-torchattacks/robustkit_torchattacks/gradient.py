"""torchattacks' attacks that follow the gradient in one step or many.

`step_size` is the library's `alpha`. Where none is given it keeps the library's ratio to eps (2/255 at 8/255,
0.2 at 1.0 for l2), since a fixed step would be useless at another eps. Cost: `steps` forward and backward
passes unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import check, param
from robustkit_torchattacks.library import run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

STEP_HELP = "step (alpha); none is eps/4, the library's 2/255 at 8/255"


def quarter(step_size: float | None, threat: Threat) -> float:
    """The step given, or a quarter of eps."""
    return threat.eps / 4 if step_size is None else step_size


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """One step of eps along the sign of the gradient (`torchattacks.FGSM`)."""

    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.FGSM(network, eps=threat.eps),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class FFGSM:
    """A uniformly random point of the ball, then one step (`torchattacks.FFGSM`, "fast is better than free")."""

    step_size: float | None = param(
        None, "step (alpha); none is 1.25 eps, the library's 10/255 at 8/255", unit="input units", low=0.0
    )
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        alpha = 1.25 * threat.eps if self.step_size is None else self.step_size
        return run(
            lambda network, seed: torchattacks.FFGSM(network, eps=threat.eps, alpha=alpha),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class BIM:
    """Steps of the sign of the gradient from the input, clipped to the ball (`torchattacks.BIM`).

    The library's `steps=0`, which picks a number from eps, is not offered.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.BIM(
                network, eps=threat.eps, alpha=quarter(self.step_size, threat), steps=self.steps
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class RFGSM:
    """One random step of the size of a step, then steps of the sign (`torchattacks.RFGSM`).

    The library's R+FGSM takes `steps` gradient steps; the paper's takes one.
    """

    steps: int = param(10, "gradient steps after the random one", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.RFGSM(
                network, eps=threat.eps, alpha=quarter(self.step_size, threat), steps=self.steps
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent in linf (`torchattacks.PGD`): one start, the last iterate is returned."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    random_start: bool = param(True, "start at a uniformly random point of the ball")
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.PGD(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                random_start=self.random_start,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class PGDL2:
    """Projected gradient descent in l2 (`torchattacks.PGDL2`).

    The random start has a direction of N(0, 1) and a length uniform in [0, eps], which is not uniform in the
    ball.
    """

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(
        None, "step (alpha); none is eps/5, the library's 0.2 at 1.0", unit="input units", low=0.0
    )
    random_start: bool = param(True, "start at a random point of the ball")
    eps_for_division: float = param(1e-10, "added to the gradient's norm before the division", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        alpha = threat.eps / 5 if self.step_size is None else self.step_size
        return run(
            lambda network, seed: torchattacks.PGDL2(
                network,
                eps=threat.eps,
                alpha=alpha,
                steps=self.steps,
                random_start=self.random_start,
                eps_for_division=self.eps_for_division,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )
