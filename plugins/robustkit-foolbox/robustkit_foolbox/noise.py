"""foolbox's noise of a fixed size: one draw, or the first of many that fools the model.

δ = eps n / ‖n‖, n drawn from N(0, 1) or U(-1, 1), then clipped to the box; clipping-aware noise is rescaled so
that its size is eps after the clipping. In linf the library divides by the largest value, not the largest
absolute value, and so leaves the ball; the result is projected. Cost: `repeats` forward passes, none for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustkit.params import check, param
from robustkit_foolbox.bridge import attacks, budget

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

# (norm, clipping aware) -> (one draw, many draws)
GAUSSIAN = {
    ("l2", False): (attacks.L2AdditiveGaussianNoiseAttack, attacks.L2RepeatedAdditiveGaussianNoiseAttack),
    ("l2", True): (
        attacks.L2ClippingAwareAdditiveGaussianNoiseAttack,
        attacks.L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack,
    ),
}
UNIFORM = {
    ("linf", False): (attacks.LinfAdditiveUniformNoiseAttack, attacks.LinfRepeatedAdditiveUniformNoiseAttack),
    ("l2", False): (attacks.L2AdditiveUniformNoiseAttack, attacks.L2RepeatedAdditiveUniformNoiseAttack),
    ("l2", True): (
        attacks.L2ClippingAwareAdditiveUniformNoiseAttack,
        attacks.L2ClippingAwareRepeatedAdditiveUniformNoiseAttack,
    ),
}


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Gaussian noise of l2 norm eps (`L2…AdditiveGaussianNoiseAttack`, four of them)."""

    repeats: int = param(100, "draws; the first that fools the model is kept", low=1)
    clipping_aware: bool = param(True, "reach eps after clipping to the box, not before")
    targeted: bool = param(False, "ask for the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        once, often = GAUSSIAN[threat.norm, self.clipping_aware]
        attack = once() if self.repeats == 1 else often(repeats=self.repeats, check_trivial=True)
        return budget(attack, model, x, y, threat, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class UniformNoise:
    """Uniform noise of size eps (`L2…` and `Linf…AdditiveUniformNoiseAttack`, six of them)."""

    repeats: int = param(100, "draws; the first that fools the model is kept", low=1)
    clipping_aware: bool = param(True, "l2: reach eps after clipping to the box, not before")
    targeted: bool = param(False, "ask for the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        once, often = UNIFORM[threat.norm, self.clipping_aware and threat.norm == "l2"]
        attack = once() if self.repeats == 1 else often(repeats=self.repeats, check_trivial=True)
        return budget(attack, model, x, y, threat, targeted=self.targeted)
