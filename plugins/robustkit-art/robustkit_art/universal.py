"""ART's attacks that make one perturbation, or one transformation, for a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from robustkit.params import check, param
from robustkit_art.bridge import ORDER, budget, evasion, minimal, runner_up

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_DELTA = "share of the batch that may stand; the search ends there"


@dataclass(frozen=True, kw_only=True)
class UniversalPerturbation:
    """One perturbation for the batch, added up from attacks on its samples (`UniversalPerturbation`).

    The perturbation depends on the batch: small batches overfit. Cost: up to `steps` attacks on each sample.
    """

    steps: int = param(20, "passes over the batch (max_iter)", low=1)
    attacker: Literal["deepfool", "fgsm", "bim", "pgd", "newtonfool"] = param("deepfool", "the inner attack")
    delta: float = param(0.2, _DELTA, low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        inner: dict[str, Any] = {}
        if self.attacker in ("fgsm", "bim", "pgd"):
            inner = {"eps": threat.eps, "eps_step": threat.eps / 3}
        if self.attacker in ("fgsm", "pgd"):
            inner["norm"] = ORDER[threat.norm]
        if self.attacker != "fgsm":
            inner["verbose"] = False
        return budget(
            lambda estimator: evasion.UniversalPerturbation(
                estimator,
                attacker=self.attacker,
                attacker_params=inner,
                delta=self.delta,
                max_iter=self.steps,
                eps=threat.eps,
                norm=ORDER[threat.norm],
                batch_size=len(x),
                verbose=False,
            ),
            model,
            x,
            y,
            threat,
        )


@dataclass(frozen=True, kw_only=True)
class TargetedUniversalPerturbation:
    """One perturbation that moves the batch towards targets, by FGSM (`TargetedUniversalPerturbation`).

    ART leaves the inner FGSM untargeted, so that it pushes away from the target; here it is targeted.
    Untargeted, the target is the class that most samples have for their second. Cost: up to `steps` forward and
    backward passes on each sample.
    """

    steps: int = param(20, "passes over the batch (max_iter)", low=1)
    delta: float = param(0.2, _DELTA, low=0.0, high=1.0)
    targeted: bool = param(False, "move towards the given classes")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) and not self.targeted:
            y = runner_up(model, x, y).mode().values.expand(len(x))
        return budget(
            lambda estimator: evasion.TargetedUniversalPerturbation(
                estimator,
                attacker="fgsm",
                attacker_params={
                    "targeted": True,
                    "eps": threat.eps,
                    "eps_step": threat.eps / 3,
                    "norm": ORDER[threat.norm],
                },
                delta=self.delta,
                max_iter=self.steps,
                eps=threat.eps,
                norm=ORDER[threat.norm],
            ),
            model,
            x,
            y,
            threat,
        )


@dataclass(frozen=True, kw_only=True)
class SpatialTransformation:
    """The one rotation and shift that fools most of the batch (`SpatialTransformation`).

    ART's defaults move nothing; here the grid is that of Engstrom et al. (2019).
    Cost: `num_rotations` x `num_translations`² forward passes.
    """

    max_translation: float = param(10.0, "largest shift", unit="percent of a side", low=0.0, high=100.0)
    num_translations: int = param(5, "shifts a direction", low=1)
    max_rotation: float = param(30.0, "largest rotation", unit="degrees", low=0.0, high=180.0)
    num_rotations: int = param(5, "rotations", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.SpatialTransformation(
                estimator,
                max_translation=self.max_translation,
                num_translations=self.num_translations,
                max_rotation=self.max_rotation,
                num_rotations=self.num_rotations,
                verbose=False,
            ),
            model,
            x,
            y,
        )
