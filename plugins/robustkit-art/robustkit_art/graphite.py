"""ART's GRAPHITE: small stickers that survive rotation, cropping, blur and light, towards a class.

ART offers it towards a target only; untargeted, the target is each sample's second most likely class. Robust
under many transformations, it may not fool the model on the plain image; such a sample comes back unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from robustkit.params import check, param
from robustkit_art.bridge import adversarial, classifier, evasion, generate, one_hot, runner_up
from robustkit_art.library import unchanged

with unchanged():  # ART imports them only when the attack is used
    import cv2  # noqa: F401
    import kornia  # noqa: F401

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_ROTATION = "largest rotation"
_TARGETED = "look for the given class, not the second most likely"


@dataclass(frozen=True, kw_only=True)
class GraphiteBlackbox:
    """A mask, then a perturbation in it, from decisions alone (`GRAPHITEBlackbox`).

    A sample needs another one of the batch that the model takes for its target; without one it comes back
    unchanged. Cost: `queries` forward passes a sample and those of the mask.
    """

    queries: int = param(20000, "queries for the perturbation (num_boost_queries)", low=1)
    heat_patch_size: int = param(4, "side of the squares that make the mask", unit="pixels", low=1)
    heat_patch_stride: int = param(1, "distance of the squares", unit="pixels", low=1)
    heatmap_mode: Literal["Target", "Random"] = param("Target", "how the squares are ordered")
    tr_lo: float = param(0.65, "share of transformations survived, fine reduction", low=0.0, high=1.0)
    tr_hi: float = param(0.85, "share of transformations survived, coarse reduction", low=0.0, high=1.0)
    num_xforms_mask: int = param(100, "transformations for the mask", low=1)
    num_xforms_boost: int = param(100, "transformations for the perturbation", low=1)
    max_mask_size: int = param(-1, "largest mask; -1 is any", unit="pixels", low=-1)
    beta: float = param(1.0, "smoothing of the estimated gradient", low=0.0)
    eta: float = param(500.0, "length of a step", low=0.0)
    rotation: float = param(30.0, _ROTATION, unit="degrees", low=0.0, high=180.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        size = (x.shape[3], x.shape[2])

        def run(estimator: Any, part: Tensor, labels: Any, example: Any) -> Tensor:
            attack = evasion.GRAPHITEBlackbox(
                estimator,
                noise_size=size,
                net_size=size,
                heat_patch_size=(self.heat_patch_size, self.heat_patch_size),
                heat_patch_stride=(self.heat_patch_stride, self.heat_patch_stride),
                heatmap_mode=self.heatmap_mode,
                tr_lo=self.tr_lo,
                tr_hi=self.tr_hi,
                num_xforms_mask=self.num_xforms_mask,
                max_mask_size=self.max_mask_size,
                beta=self.beta,
                eta=self.eta,
                num_xforms_boost=self.num_xforms_boost,
                num_boost_queries=self.queries,
                rotation_range=(-self.rotation, self.rotation),
            )
            return generate(_WithExample(attack, example), part, labels)

        return _each(run, model, x, y, self.targeted, example=True)


@dataclass(frozen=True, kw_only=True)
class GraphiteWhitebox:
    """Expectation over transformations in a mask that shrinks (`GRAPHITEWhiteboxPyTorch`).

    Cost: (`first_steps` + rounds x `steps`) x `num_xforms` forward and backward passes a sample.
    """

    steps: int = param(50, "iterations of a later round", low=1)
    first_steps: int = param(500, "iterations of the first round", low=1)
    step_size: float = param(0.0157, "length of a step", unit="input units", low=0.0)
    num_xforms: int = param(100, "transformations", low=1)
    min_tr: float = param(0.8, "share of transformations survived", low=0.0, high=1.0)
    patch_removal_size: float = param(4.0, "side of the squares taken from the mask", unit="pixels", low=1.0)
    patch_removal_interval: float = param(2.0, "distance of the squares", unit="pixels", low=1.0)
    num_patches_to_remove: int = param(4, "squares taken a round", low=1)
    rotation: float = param(30.0, _ROTATION, unit="degrees", low=0.0, high=180.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        def run(estimator: Any, part: Tensor, labels: Any, example: Any) -> Tensor:
            attack = evasion.GRAPHITEWhiteboxPyTorch(
                estimator,
                net_size=(x.shape[3], x.shape[2]),
                min_tr=self.min_tr,
                num_xforms=self.num_xforms,
                step_size=self.step_size,
                steps=self.steps,
                first_steps=self.first_steps,
                patch_removal_size=self.patch_removal_size,
                patch_removal_interval=self.patch_removal_interval,
                num_patches_to_remove=self.num_patches_to_remove,
                rotation_range=(-self.rotation, self.rotation),
            )
            attack._eval = _Ending(attack._eval, self.min_tr)
            return generate(attack, part, labels)

        return _each(run, model, x, y, self.targeted, example=False)


class _Ending:
    """ART's measure of success, which ends its loop where nothing more can be taken from the mask.

    ART takes squares from the mask for as long as enough transformed images reach the target, and goes on for ever
    where they do so with an empty mask: where the transformed clean image is of the target class.
    """

    def __init__(self, measure: Any, enough: float) -> None:
        self._measure = measure
        self._enough = enough
        self._succeeded: float | None = None  # size of the mask

    def __call__(self, image: Tensor, changed: Tensor, mask: Tensor, *rest: Any) -> float:
        size = float(mask.detach().sum())
        if size == self._succeeded:
            return -1.0
        share = float(self._measure(image, changed, mask, *rest))
        if share >= self._enough:
            self._succeeded = size
        return share


@dataclass(frozen=True)
class _WithExample:
    """GRAPHITE with an image of the target class."""

    attack: Any
    example: Any

    def generate(self, x: Any, y: Any) -> Any:
        return self.attack.generate(x, y, x_tar=self.example)


def _each(run: Any, model: nn.Module, x: Tensor, y: Tensor, targeted: bool, *, example: bool) -> Tensor:
    """Attack the samples one by one towards their targets."""
    if len(x) == 0:
        return x.clone()
    goal = y if targeted else runner_up(model, x, y)
    best = x.detach().float().clone()
    with torch.no_grad():
        predicted = model(x).argmax(dim=1)  # (N,)
    todo = (~adversarial(model, x, y, targeted)).nonzero().flatten()
    with classifier(model, x) as estimator:
        for index in todo.split(1):
            like = (predicted == goal[index]).nonzero().flatten()
            if example and len(like) == 0:
                continue
            shown = best[like[:1]].cpu().numpy() if example else None
            found = run(estimator, x[index], one_hot(goal[index], estimator.nb_classes), shown).clamp(0, 1)
            if bool(adversarial(model, found.to(x.dtype), y[index], targeted)):
                best[index] = found
    return torch.where(best == x.float(), x.detach(), best.to(x.dtype))
