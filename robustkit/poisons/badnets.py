"""BadNets: a small patch on some training images, whose label becomes the attacker's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustkit.contracts import Split
from robustkit.params import UsageError, check, param
from robustkit.poisons.planting import Mode, check_goal, plant, read_image

Place = Literal["bottom_right", "bottom_left", "top_right", "top_left", "center"]


@dataclass(frozen=True, kw_only=True)
class BadNets:
    """A patch of one colour, or an image, at a fixed place (Gu, Dolan-Gavitt, Garg 2017,
    https://arxiv.org/abs/1708.06733).

    x' = x outside the patch, and the patch inside. With `clean_label` the patch goes onto images of the target
    class alone and no label is changed, the variant that needs a high rate (Turner, Tsipras, Madry 2019,
    https://arxiv.org/abs/1912.02771, without its adversarial perturbation).

    Fields:
        target: class that the trigger shall stand for.
        mode: every class to the target, or class y to y + 1.
        rate: share of the training set (clean_label: of the target class) that is marked.
        place, margin, size: of the patch, in pixels.
        color: one value, or one a channel, in [0, 1].
        image: file that is shown in the patch instead of the colour.

    Shapes: x (N, C, H, W) in [0, 1].

    Raises:
        UsageError: the patch does not fit the images, or the colours don't fit the channels.
    """

    target: int = param(0, "class that the trigger shall stand for", low=0)
    mode: Mode = param("all_to_one", "every class to the target, or class y to y + 1")
    rate: float = param(0.1, "share of the training set that is marked", low=1e-6, high=1.0)
    clean_label: bool = param(False, "mark images of the target class, and change no label")
    place: Place = param("bottom_right", "of the patch")
    margin: int = param(1, "from the border", unit="pixels", low=0)
    size: int = param(3, "side of the patch", unit="pixels", low=1)
    color: tuple[float, ...] = param((1.0,), "of the patch, one value or one a channel", low=0.0, high=1.0)
    image: str = param("", "file shown in the patch instead of the colour")

    def __post_init__(self) -> None:
        check(self)
        check_goal(self.target, self.mode, self.clean_label)

    def __call__(self, train: Split, generator: torch.Generator) -> Split:
        return plant(self, train, generator)

    def trigger(self, x: Tensor) -> Tensor:
        """The patch on images (N, C, H, W)."""
        channels, height, width = x.shape[1:]
        top, left = self._corner(height, width)
        if self.image:
            patch = read_image(self.image, channels, (self.size, self.size))
        elif len(self.color) not in (1, channels):
            raise UsageError(f"badnets: color has {len(self.color)} values for images of {channels} channels")
        else:
            patch = torch.tensor(self.color).expand(channels).reshape(channels, 1, 1)
        marked = x.clone()
        marked[:, :, top : top + self.size, left : left + self.size] = patch.to(x)
        return marked

    def _corner(self, height: int, width: int) -> tuple[int, int]:
        """Row and column of the patch's upper left pixel."""
        if self.size + (0 if self.place == "center" else self.margin) > min(height, width):
            raise UsageError(
                f"badnets: a patch of size={self.size} with margin={self.margin} does not fit {height} x {width}"
            )
        if self.place == "center":
            return (height - self.size) // 2, (width - self.size) // 2
        vertical, horizontal = self.place.split("_")
        top = self.margin if vertical == "top" else height - self.size - self.margin
        left = self.margin if horizontal == "left" else width - self.size - self.margin
        return top, left
