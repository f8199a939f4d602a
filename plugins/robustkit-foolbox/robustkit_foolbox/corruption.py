"""foolbox's attacks along one fixed path: contrast, blur, inversion, blending, rotation, binarization.

All of them ask for the predicted class alone and obey no ball; they are scored by the distance they end at.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from robustkit.params import UsageError, check, param
from robustkit_foolbox.bridge import attacks, criterion, minimal
from robustkit_foolbox.start import labels_of, starting_points

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_TARGETED = "look for the given class"


@dataclass(frozen=True, kw_only=True)
class ContrastBinary:
    """Binary search for the least loss of contrast (`BinarySearchContrastReductionAttack`)."""

    binary_search_steps: int = param(15, "halvings", low=1)
    target: float = param(0.5, "the grey", unit="input units", low=0.0, high=1.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.BinarySearchContrastReductionAttack(
            binary_search_steps=self.binary_search_steps, target=self.target
        )
        return minimal(attack.run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class ContrastLinear:
    """Linear search for the least loss of contrast (`LinearSearchContrastReductionAttack`)."""

    steps: int = param(1000, "contrasts tried", low=1)
    target: float = param(0.5, "the grey", unit="input units", low=0.0, high=1.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.LinearSearchContrastReductionAttack(steps=self.steps, target=self.target)
        return minimal(attack.run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class GaussianBlur:
    """Linear search for the least blur that fools the model (`GaussianBlurAttack`)."""

    steps: int = param(1000, "blurs tried", low=1)
    max_sigma: float | None = param(None, "largest blur; none is the larger side", unit="pixels", low=0.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.GaussianBlurAttack(steps=self.steps, max_sigma=self.max_sigma)
        return minimal(attack.run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """The negative of the image (`InversionAttack`)."""

    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(attacks.InversionAttack().run, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class BlendedNoise:
    """Linear search between the image and a random one (`LinearSearchBlendedUniformNoiseAttack`).

    Cost: up to `directions` + `steps` forward passes.
    """

    directions: int = param(1000, "random images tried until one fools the model", low=1)
    steps: int = param(1000, "blends tried", low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.LinearSearchBlendedUniformNoiseAttack(directions=self.directions, steps=self.steps)

        def search(network: Any, part: Tensor, goal: Any) -> Tensor:
            with warnings.catch_warnings():  # the library warns where its draws don't suffice for a sample
                warnings.simplefilter("ignore")
                found: Tensor = attack.run(network, part, goal)
            return found

        return minimal(search, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class Spatial:
    """Rotations and shifts, on a grid or random (`SpatialAttack`); the first that fools the model.

    Cost: `num_rotations` x `num_translations`² forward passes, or `random_steps`.
    """

    max_translation: float = param(3.0, "largest shift", unit="pixels", low=0.0)
    max_rotation: float = param(30.0, "largest rotation", unit="degrees", low=0.0)
    num_translations: int = param(5, "shifts a direction on the grid", low=1)
    num_rotations: int = param(5, "rotations on the grid", low=1)
    grid_search: bool = param(True, "a grid instead of random_steps random draws")
    random_steps: int = param(100, "random draws", low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.SpatialAttack(
            max_translation=self.max_translation,
            max_rotation=self.max_rotation,
            num_translations=self.num_translations,
            num_rotations=self.num_rotations,
            grid_search=self.grid_search,
            random_steps=self.random_steps,
        )

        def search(network: Any, part: Tensor, goal: Any) -> Tensor:
            with warnings.catch_warnings():  # torch.meshgrid without `indexing` warns once a process
                warnings.filterwarnings("ignore", message=r".*meshgrid")
                found: Tensor = attack.run(network, part, goal)
            return found

        return minimal(search, model, x, y, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class BinarizationRefinement:
    """Moves each value of an adversarial image to the near side of a threshold (`BinarizationRefinementAttack`).

    For networks that binarize their input. The starting points are those of `start.py`. Where the network does
    not binarize at `threshold` the library raises, and so does this.
    """

    threshold: float = param(0.5, "where the network binarizes", unit="input units", low=0.0, high=1.0)
    included_in: Literal["lower", "upper"] = param("upper", "side that the threshold itself belongs to")
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        attack = attacks.BinarizationRefinementAttack(threshold=self.threshold, included_in=self.included_in)

        def search(network: Any, part: Tensor, goal: Any) -> Tensor:
            targeted, labels = labels_of(goal)
            start, found = starting_points(network, part, labels, targeted)
            if not bool(found.any()):
                return part
            try:
                start[found] = attack.run(
                    network, part[found], criterion(labels[found], targeted), starting_points=start[found]
                )
            except ValueError as error:
                raise UsageError(
                    f"binarization_refinement: this network does not binarize its input at {self.threshold:g} "
                    f"({error}); it serves such networks alone"
                ) from None
            return start

        return minimal(search, model, x, y, targeted=self.targeted)
