"""torchattacks' attacks made to transfer: diverse inputs, smoothed gradients, patches.

Where a method has momentum it divides the gradient by the mean of its absolute values (see `momentum.py`).
`step_size` is the library's `alpha`; cost: `steps` forward and backward passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import UsageError, check, param
from robustkit_torchattacks.gradient import STEP_HELP, quarter
from robustkit_torchattacks.library import require_channels, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_RATE_HELP = "smallest size of a resized input, as a share of its own"


@dataclass(frozen=True, kw_only=True)
class DIFGSM:
    """Gradients of inputs that are resized and padded at random (`torchattacks.DIFGSM`)."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    decay: float = param(0.0, "momentum", low=0.0)
    resize_rate: float = param(0.9, _RATE_HELP, low=0.1, high=0.99)
    diversity_prob: float = param(0.5, "probability of a resized input", low=0.0, high=1.0)
    random_start: bool = param(False, "start at a uniformly random point of the ball")
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        _require_square(x)
        return run(
            lambda network, seed: torchattacks.DIFGSM(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                decay=self.decay,
                resize_rate=self.resize_rate,
                diversity_prob=self.diversity_prob,
                random_start=self.random_start,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class TIFGSM:
    """DI-FGSM with the gradient smoothed by a kernel (`torchattacks.TIFGSM`); 3 channels only."""

    steps: int = param(10, "iterations", low=1)
    step_size: float | None = param(None, STEP_HELP, unit="input units", low=0.0)
    decay: float = param(0.0, "momentum", low=0.0)
    kernel_name: Literal["gaussian", "linear", "uniform"] = param("gaussian", "shape of the kernel")
    len_kernel: int = param(15, "side of the kernel", unit="pixels", low=1)
    nsig: int = param(3, "standard deviations that a gaussian kernel spans", low=1)
    resize_rate: float = param(0.9, _RATE_HELP, low=0.1, high=0.99)
    diversity_prob: float = param(0.5, "probability of a resized input", low=0.0, high=1.0)
    random_start: bool = param(False, "start at a uniformly random point of the ball")
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_channels(x, "TIFGSM")
        _require_square(x)
        return run(
            lambda network, seed: torchattacks.TIFGSM(
                network,
                eps=threat.eps,
                alpha=quarter(self.step_size, threat),
                steps=self.steps,
                decay=self.decay,
                kernel_name=self.kernel_name,
                len_kernel=self.len_kernel,
                nsig=self.nsig,
                resize_rate=self.resize_rate,
                diversity_prob=self.diversity_prob,
                random_start=self.random_start,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class PIFGSM:
    """Patch-wise FGSM: what is cut off at eps goes to the neighbours (`torchattacks.PIFGSM`); 3 channels only.

    The step is eps / steps × amplification. The library's `momentum` and `prob` are read by nothing and are
    not offered.
    """

    steps: int = param(10, "iterations (num_iter_set)", low=1)
    amplification: float = param(10.0, "factor on the step eps / steps", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_channels(x, "PIFGSM")
        return run(
            lambda network, seed: torchattacks.PIFGSM(
                network,
                max_epsilon=threat.eps,
                num_iter_set=self.steps,
                amplification=self.amplification,
            ),
            model,
            x,
            y,
        )


@dataclass(frozen=True, kw_only=True)
class PIFGSMPP:
    """Patch-wise++ FGSM, with a smoothed gradient (`torchattacks.PIFGSMPP`); 3 channels only.

    The step is eps / steps × amplification. The library's `momentum` and `prob` are read by nothing and are
    not offered.
    """

    steps: int = param(10, "iterations (num_iter_set)", low=1)
    amplification: float = param(10.0, "factor on the step eps / steps", low=0.0)
    project_factor: float = param(0.8, "weight of what goes to the neighbours", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_channels(x, "PIFGSMPP")
        return run(
            lambda network, seed: torchattacks.PIFGSMPP(
                network,
                max_epsilon=threat.eps,
                num_iter_set=self.steps,
                amplification=self.amplification,
                project_factor=self.project_factor,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


def _require_square(x: Tensor) -> None:
    if x.shape[2] != x.shape[3]:
        raise UsageError(
            f"torchattacks resizes inputs to squares and the images are {x.shape[2]} × {x.shape[3]}; "
            "use torchattacks.mifgsm"
        )
