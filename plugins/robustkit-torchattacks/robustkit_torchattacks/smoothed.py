"""torchattacks' PGD against randomized smoothing: the gradient of the mean probability under noise.

Cost: `steps` × `noise_batch_size` forward and backward passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import check, param
from robustkit_torchattacks.gradient import STEP_HELP, quarter
from robustkit_torchattacks.library import run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_TYPES = {"gaussian": "guassian", "uniform": "uniform"}
"""Our spelling → the library's."""


@dataclass(frozen=True, kw_only=True)
class PGDRS:
    """SmoothAdv's PGD in linf (`torchattacks.PGDRS`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    noise_type: Literal["gaussian", "uniform"] = param("gaussian", "noise that the network is smoothed with")
    noise_sd: float = param(0.5, "standard deviation, or half the range of uniform noise", unit="input units", low=0.0)
    noise_batch_size: int = param(5, "noisy copies of each input", low=1)
    batch_max: int = param(2048, "noisy inputs in one pass", low=1)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.PGDRS(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                noise_type=_TYPES[self.noise_type],
                noise_sd=self.noise_sd,
                noise_batch_size=self.noise_batch_size,
                batch_max=max(self.batch_max, self.noise_batch_size),
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class PGDRSL2:
    """SmoothAdv's PGD in l2 (`torchattacks.PGDRSL2`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(
        None, "step (alpha); none is eps/5, the library's 0.2 at 1.0", unit="input units", low=0.0
    )
    noise_type: Literal["gaussian", "uniform"] = param("gaussian", "noise that the network is smoothed with")
    noise_sd: float = param(0.5, "standard deviation, or half the range of uniform noise", unit="input units", low=0.0)
    noise_batch_size: int = param(5, "noisy copies of each input", low=1)
    batch_max: int = param(2048, "noisy inputs in one pass", low=1)
    eps_for_division: float = param(1e-10, "added to the gradient's norm before the division", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        alpha = threat.eps / 5 if self.step_size is None else self.step_size
        return run(
            lambda network, seed: torchattacks.PGDRSL2(
                network,
                eps=threat.eps,
                alpha=alpha,
                steps=self.steps,
                noise_type=_TYPES[self.noise_type],
                noise_sd=self.noise_sd,
                noise_batch_size=self.noise_batch_size,
                batch_max=max(self.batch_max, self.noise_batch_size),
                eps_for_division=self.eps_for_division,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )
