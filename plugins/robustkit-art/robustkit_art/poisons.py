"""ART's backdoor: a pattern on some training images, whose label becomes the attacker's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from robustkit.data.splits import ArraySplit
from robustkit.params import UsageError, check, param
from robustkit_art.library import image_perturbations, poisoning

if TYPE_CHECKING:
    from torch import Tensor

    from robustkit.contracts import Split


@dataclass(frozen=True, kw_only=True)
class Backdoor:
    """BadNets (`PoisoningAttackBackdoor`; Gu et al. 2017, https://arxiv.org/abs/1708.06733).

    A share of the training images gets a small pattern near the lower right corner, and the target's label.
    """

    target: int = param(0, "class that the pattern shall stand for", low=0)
    share: float = param(0.1, "share of the training images", low=1e-6, high=1.0)
    pattern: Literal["pattern", "single"] = param("pattern", "four pixels in a checkerboard, or one pixel")
    distance: int = param(2, "from the lower right corner", unit="pixels", low=1)
    pixel_value: float = param(1.0, "of the pattern", unit="input units", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, train: Split, generator: torch.Generator) -> Split:
        x, y = train.batch(torch.arange(len(train)))
        if self.target > int(y.max()):
            raise UsageError(f"backdoor: target={self.target} is no class; the labels reach to {int(y.max())}")
        others = (y != self.target).nonzero().flatten()
        count = min(len(others), max(1, round(self.share * len(y))))
        chosen = others[torch.randperm(len(others), generator=generator)[:count]]
        marked, labels = self._attack(x.shape[2:]).poison(x[chosen].numpy(), np.full(count, self.target))
        x, y = x.clone(), y.clone()
        x[chosen] = torch.from_numpy(marked)
        y[chosen] = torch.from_numpy(labels)
        return ArraySplit(x, y)

    def trigger(self, x: Tensor) -> Tensor:
        """The pattern on images (N, C, H, W)."""
        marked = self._attack(x.shape[2:]).perturbation(x.detach().cpu().numpy())
        return torch.from_numpy(np.asarray(marked)).to(x.device, x.dtype)

    def _attack(self, size: torch.Size) -> Any:
        reach = self.distance + (2 if self.pattern == "pattern" else 0)
        if reach > min(size):
            raise UsageError(f"backdoor: a pattern at distance={self.distance} does not fit images of {tuple(size)}")
        draw = image_perturbations.add_pattern_bd if self.pattern == "pattern" else image_perturbations.add_single_bd
        return poisoning.PoisoningAttackBackdoor(partial(_drawn, draw, self.distance, self.pixel_value))


def _drawn(draw: Any, distance: int, value: float, x: Any) -> Any:
    """ART draws on (N, H, W, C)."""
    return np.ascontiguousarray(draw(x.transpose(0, 2, 3, 1), distance, value).transpose(0, 3, 1, 2))
