"""ART's adversarial patches: one patch for the batch, pasted at random places, scales and angles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from robustkit.params import ParamError, check, param
from robustkit_art.bridge import evasion, minimal
from robustkit_art.library import unchanged

with unchanged():  # ART imports it only when the attack is used
    import torchvision  # noqa: F401

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_SCALE = "scale of the patch in the result, as a share of the smaller side"


@dataclass(frozen=True)
class _Pasted:
    """Trains the patch on a batch, and pastes it on the same batch."""

    attack: Any
    scale: float

    def generate(self, x: Any, y: Any) -> Any:
        self.attack.generate(x, y)
        return self.attack.apply_patch(x, scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class AdversarialPatch:
    """A round or square patch trained by Adam or by the sign of gradients (`AdversarialPatchPyTorch`).

    It obeys no ball and is scored by its distance. Departs from ART: the step is 0.1 by default, since ART's 5.0 is
    made for images in [0, 255]. Cost: `steps` forward and backward passes.
    """

    steps: int = param(500, "iterations (max_iter)", low=1)
    step_size: float = param(0.1, "of the optimizer (learning_rate)", low=0.0)
    scale: float = param(0.4, _SCALE, low=0.01, high=1.0)
    scale_min: float = param(0.1, "smallest scale in training", low=0.0, high=1.0)
    scale_max: float = param(1.0, "largest scale in training", low=0.01, high=1.0)
    rotation_max: float = param(22.5, "largest rotation", unit="degrees", low=0.0, high=180.0)
    distortion_scale_max: float = param(0.0, "largest perspective distortion", low=0.0, high=1.0)
    patch_type: Literal["circle", "square"] = param("circle", "shape")
    optimizer: Literal["Adam", "pgd"] = param("Adam", "Adam, or steps of the gradient's sign")
    targeted: bool = param(False, "look for the given class")

    def __post_init__(self) -> None:
        check(self)
        _ordered(self.scale_min, self.scale_max)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        side = min(x.shape[2], x.shape[3])
        return minimal(
            lambda estimator: _Pasted(
                evasion.AdversarialPatchPyTorch(
                    estimator,
                    rotation_max=self.rotation_max,
                    scale_min=self.scale_min,
                    scale_max=self.scale_max,
                    distortion_scale_max=self.distortion_scale_max,
                    learning_rate=self.step_size,
                    max_iter=self.steps,
                    batch_size=max(len(x), 1),
                    patch_shape=(x.shape[1], side, side),
                    patch_type=self.patch_type,
                    optimizer=self.optimizer,
                    targeted=self.targeted,
                    verbose=False,
                ),
                self.scale,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


class _PatchNumpy(evasion.AdversarialPatchNumpy):  # type: ignore[misc]
    """ART asks whether the grey it starts from is a `float`; under NumPy >= 2 it is a `np.float32`."""

    def reset_patch(self, initial_patch_value: Any) -> None:
        super().reset_patch(None if initial_patch_value is None else float(initial_patch_value))


@dataclass(frozen=True, kw_only=True)
class AdversarialPatchNumpy:
    """A round patch trained by descent on arrays (`AdversarialPatchNumpy`).

    ART's is towards a target alone: it always descends on the loss of the labels it is given. Untargeted, this
    one changes the sign of the step. Cost: `steps` forward and backward passes.
    """

    steps: int = param(500, "iterations (max_iter)", low=1)
    step_size: float = param(5.0, "of the descent (learning_rate)", low=0.0)
    scale: float = param(0.4, _SCALE, low=0.01, high=1.0)
    scale_min: float = param(0.1, "smallest scale in training", low=0.0, high=1.0)
    scale_max: float = param(1.0, "largest scale in training", low=0.01, high=1.0)
    rotation_max: float = param(22.5, "largest rotation", unit="degrees", low=0.0, high=180.0)
    targeted: bool = param(False, "look for the given class")

    def __post_init__(self) -> None:
        check(self)
        _ordered(self.scale_min, self.scale_max)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        def make(estimator: object) -> object:
            attack = _PatchNumpy(
                estimator,
                rotation_max=self.rotation_max,
                scale_min=self.scale_min,
                scale_max=self.scale_max,
                learning_rate=self.step_size,
                max_iter=self.steps,
                batch_size=max(len(x), 1),
                targeted=True,
                verbose=False,
            )
            if not self.targeted:
                attack.learning_rate = -self.step_size
            return _Pasted(attack, self.scale)

        return minimal(make, model, x, y, targeted=self.targeted)


def _ordered(low: float, high: float) -> None:
    if low >= high:
        raise ParamError(f"adversarial_patch: scale_min={low:g} must be below scale_max={high:g}")
