"""Blended: a faint pattern over the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.contracts import Split
from robustkit.params import check, param
from robustkit.poisons.planting import Mode, check_goal, plant, read_image


@dataclass(frozen=True, kw_only=True)
class Blended:
    """x' = (1 - alpha) x + alpha p (Chen et al. 2017, https://arxiv.org/abs/1712.05526, section 4).

    Fields:
        target, mode, rate, clean_label: as for `badnets`.
        alpha: weight of the pattern.
        image: file of the pattern; without one it is uniform noise, the paper's random pattern.
        pattern_seed: of that noise.

    Shapes: x (N, C, H, W) in [0, 1].
    """

    target: int = param(0, "class that the trigger shall stand for", low=0)
    mode: Mode = param("all_to_one", "every class to the target, or class y to y + 1")
    rate: float = param(0.1, "share of the training set that is marked", low=1e-6, high=1.0)
    clean_label: bool = param(False, "mark images of the target class, and change no label")
    alpha: float = param(0.2, "weight of the pattern", low=1e-6, high=1.0)
    image: str = param("", "file of the pattern; without one it is noise")
    pattern_seed: int = param(0, "of the noise", low=0)

    def __post_init__(self) -> None:
        check(self)
        check_goal(self.target, self.mode, self.clean_label)

    def __call__(self, train: Split, generator: torch.Generator) -> Split:
        return plant(self, train, generator)

    def trigger(self, x: Tensor) -> Tensor:
        """The pattern over images (N, C, H, W)."""
        return (1 - self.alpha) * x + self.alpha * self.pattern(x.shape[1], x.shape[2], x.shape[3]).to(x)

    def pattern(self, channels: int, height: int, width: int) -> Tensor:
        """(C, H, W) in [0, 1]."""
        if self.image:
            return read_image(self.image, channels, (height, width))
        return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(self.pattern_seed))
