"""ART's composition of colour changes, rotation and a small linf perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from robustkit.params import ParamError, UsageError, check, param
from robustkit_art.bridge import evasion, minimal
from robustkit_art.library import unchanged

with unchanged():  # ART imports it only when the attack is used
    import kornia  # noqa: F401

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_NAMES = ("hue", "saturation", "rotation", "brightness", "contrast", "linf")


class _Composite(evasion.CompositeAdversarialAttackPyTorch):  # type: ignore[misc]
    """ART's attack on images of any size: it fixes the start of the linf part to 3 x 32 x 32."""

    def _setup_attack(self) -> None:
        super()._setup_attack()
        if self.linf_idx is not None:
            shape = (self.batch_size, *self.estimator.input_shape)
            self.adv_val_space[self.linf_idx] = 0.001 * torch.randn(shape, device=self.device)


@dataclass(frozen=True, kw_only=True)
class Composite:
    """Hue, saturation, rotation, brightness, contrast and linf, in an order that is searched
    (`CompositeAdversarialAttackPyTorch`); colour images only.

    Cost: up to `steps` x `max_inner_iter` forward and backward passes for each part.
    """

    parts: tuple[str, ...] = param(_NAMES, f"of {', '.join(_NAMES)} (enabled_attack), in the order for fixed")
    attack_order: Literal["scheduled", "random", "fixed"] = param("scheduled", "how the order is chosen")
    steps: int = param(5, "orders tried (max_iter)", low=1)
    max_inner_iter: int = param(10, "iterations of each part", low=1)
    hue: float = param(3.141592653589793, "largest change of hue", unit="radians", low=0.0, high=3.141592653589793)
    saturation: float = param(0.3, "largest change of the factor on saturation", low=0.0, high=1.0)
    rotation: float = param(10.0, "largest rotation", unit="degrees", low=0.0, high=360.0)
    brightness: float = param(0.2, "largest change of brightness", unit="input units", low=0.0, high=1.0)
    contrast: float = param(0.3, "largest change of the factor on contrast", low=0.0, high=1.0)
    linf: float = param(8 / 255, "largest change of a value in the linf part", unit="input units", low=0.0, high=1.0)
    early_stop: bool = param(True, "stop where the model is fooled")

    def __post_init__(self) -> None:
        check(self)
        unknown = set(self.parts) - set(_NAMES)
        if unknown or not self.parts:
            raise ParamError(f"composite: parts={'+'.join(self.parts)} must be some of {'+'.join(_NAMES)}")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if x.shape[1] != 3:
            raise UsageError(f"art.composite changes colours and the images have {x.shape[1]} channels, not 3")
        return minimal(
            lambda estimator: _Composite(
                estimator,
                enabled_attack=tuple(_NAMES.index(part) for part in self.parts),
                hue_epsilon=(-self.hue, self.hue),
                sat_epsilon=(1.0 - self.saturation, 1.0 + self.saturation),
                rot_epsilon=(-self.rotation, self.rotation),
                bri_epsilon=(-self.brightness, self.brightness),
                con_epsilon=(1.0 - self.contrast, 1.0 + self.contrast),
                pgd_epsilon=(-self.linf, self.linf),
                early_stop=self.early_stop,
                max_iter=self.steps,
                max_inner_iter=self.max_inner_iter,
                attack_order=self.attack_order,
                batch_size=max(len(x), 1),
                verbose=False,
            ),
            model,
            x,
            y,
        )
