"""torchattacks' attacks that change few pixels. Our l0 counts changed values: a pixel of RGB has three."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import UsageError, check, param
from robustkit_torchattacks.library import classes, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class JSMA:
    """Jacobian saliency maps: two values at a time towards a target class (`torchattacks.JSMA`), sample by sample.

    It has no untargeted mode: without `targeted` it aims at the next class, as the library does, but for any
    number of classes where the library takes 10 for granted. It has no budget in eps and is scored by distance.
    Cost: up to D gamma / 2 × (1 forward and K backward passes), and memory in D² for each sample.
    """

    theta: float = param(1.0, "change of a value in one step", unit="input units", low=-1.0, high=1.0)
    gamma: float = param(0.1, "largest share of values that may change", low=0.0, high=1.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) == 0:
            return x.clone()
        target = y if self.targeted else (y + 1) % classes(model, x)
        return run(
            lambda network, seed: torchattacks.JSMA(network, theta=self.theta, gamma=self.gamma),
            model,
            x,
            target,
            targeted=True,
        )


@dataclass(frozen=True, kw_only=True)
class SparseFool:
    """Few values along the normal of the boundary that DeepFool finds (`torchattacks.SparseFool`).

    It works sample by sample and stalls where DeepFool does.
    Cost: up to `steps` × (50 DeepFool steps + 2 forward and 1 backward passes).
    """

    steps: int = param(10, "iterations", low=1)
    lam: float = param(3.0, "how far beyond the boundary the search aims", low=1.0)
    overshoot: float = param(0.02, "share by which a step goes beyond the boundary", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        with warnings.catch_warnings():
            # It hands tensors to numpy.unravel_index, which NumPy 2 calls deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            return run(
                lambda network, seed: torchattacks.SparseFool(
                    network, steps=self.steps, lam=self.lam, overshoot=self.overshoot
                ),
                model,
                x,
                y,
            )


@dataclass(frozen=True, kw_only=True)
class OnePixel:
    """Differential evolution over few pixels (`torchattacks.OnePixel`), sample by sample, on scores.

    The number of pixels is eps / C, rounded down. Cost: up to about (`steps` + 1) × `popsize` forward passes.
    """

    steps: int = param(10, "generations", low=1)
    popsize: int = param(10, "individuals in a generation; at least five for each pixel are used", low=1)
    inf_batch: int = param(128, "individuals in one forward pass", low=1)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        pixels = int(threat.eps) // x.shape[1]
        if pixels < 1:
            raise UsageError(
                f"l0 eps={threat.eps:g} allows no whole pixel of {x.shape[1]} values; give eps at least {x.shape[1]}"
            )
        return run(
            lambda network, seed: torchattacks.OnePixel(
                network, pixels=pixels, steps=self.steps, popsize=self.popsize, inf_batch=self.inf_batch
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class Pixle:
    """Random search over copied pixels (`torchattacks.Pixle`), sample by sample, on scores.

    It has no budget and is scored by distance. Cost: up to `restarts` × `steps` × 2 forward passes.
    """

    steps: int = param(10, "iterations of each restart (max_iterations)", low=1)
    restarts: int = param(20, "restarts; each goes on from the best so far", low=1)
    x_dimensions: tuple[int | float, ...] = param(
        (2, 10), "least and largest width of a patch, in pixels or as a share below 1"
    )
    y_dimensions: tuple[int | float, ...] = param(
        (2, 10), "least and largest height of a patch, in pixels or as a share below 1"
    )
    pixel_mapping: Literal["random", "similarity", "similarity_random", "distance", "distance_random"] = param(
        "random", "where the pixels of a patch go"
    )
    update_each_iteration: bool = param(False, "go on from every gain, without restarts")
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)
        for name in ("x_dimensions", "y_dimensions"):
            low_high = getattr(self, name)
            if len(low_high) != 2 or min(low_high) < 0:
                raise UsageError(f"{name}={low_high!r} must be two sizes, least and largest, such as 2+10")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if x.shape[2] != x.shape[3]:
            raise UsageError(
                f"torchattacks' Pixle takes columns for rows and the images are {x.shape[2]} × {x.shape[3]}; "
                "it works on square images alone"
            )
        # With update_each_iteration the library takes one sample at a time.
        size = 1 if self.update_each_iteration else max(len(x), 1)
        return torch.cat(
            [
                run(self._build, model, part, labels, targeted=self.targeted)
                for part, labels in zip(x.split(size), y.split(size), strict=True)
            ]
        )

    def _build(self, network: nn.Module, seed: int) -> torchattacks.Pixle:
        return torchattacks.Pixle(
            network,
            x_dimensions=tuple(self.x_dimensions),
            y_dimensions=tuple(self.y_dimensions),
            pixel_mapping=self.pixel_mapping,
            restarts=self.restarts,
            max_iterations=self.steps,
            update_each_iteration=self.update_each_iteration,
        )
