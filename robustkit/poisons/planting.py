"""What all poisons share: which images are marked, which labels they get, and what the attacker wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from robustkit.contracts import Poison, Split
from robustkit.data.splits import ArraySplit, in_memory, to_unit
from robustkit.params import UsageError

Mode = Literal["all_to_one", "all_to_all"]
Mark = Callable[[Tensor], Tensor]
_AT_ONCE = 1000


@dataclass(frozen=True)
class MarkedSplit:
    """A split some of whose images are marked when they are read; for data that don't fit into memory.

    Args:
        of: the clean split.
        chosen: (N,) bool, which images carry the trigger.
        labels: (N,) int64 after poisoning.
        mark: puts the trigger on images (n, C, H, W).
    """

    of: Split
    chosen: Tensor
    labels: Tensor
    mark: Mark

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        x, _ = self.of.batch(index)
        rows = self.chosen[index]
        if bool(rows.any()):
            x = x.clone()
            x[rows] = self.mark(x[rows])
        return x, self.labels[index]


class Planting(Protocol):
    """What the native poisons share; see `badnets` for the fields."""

    @property
    def target(self) -> int: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def rate(self) -> float: ...
    @property
    def clean_label(self) -> bool: ...
    def trigger(self, x: Tensor) -> Tensor: ...


def wanted_labels(y: Tensor, classes: int, target: int, mode: Mode) -> Tensor:
    """What the attacker wants triggered images of class `y` to be taken for: (N,) int64."""
    return (y + 1) % classes if mode == "all_to_all" else torch.full_like(y, target)


def goal(poison: Poison, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """What a poison's success is judged by.

    Args:
        poison: with a field `target`, or with `mode="all_to_all"`.
        y: (N,) int64, the true labels.
        classes: K.

    Returns:
        wanted (N,) int64, and judged (N,) bool: an image that belongs to the wanted class anyway tells nothing.

    Raises:
        UsageError: the poison has neither, or a target that is no class.
    """
    mode: Mode = getattr(poison, "mode", "all_to_one")
    target = getattr(poison, "target", None)
    if mode != "all_to_all" and not isinstance(target, int):
        raise UsageError(f"{type(poison).__name__} has no field target, so its success cannot be judged")
    if target is not None and target >= classes:
        raise UsageError(f"target={target} is no class; with {classes} classes they reach to {classes - 1}")
    wanted = wanted_labels(y, classes, target or 0, mode)
    return wanted, wanted != y


def check_goal(target: int, mode: Mode, clean_label: bool) -> None:
    """Refuse what contradicts itself.

    Raises:
        ValueError: clean labels and all_to_all, which changes every label.
    """
    if clean_label and mode == "all_to_all":
        raise ValueError(
            "clean_label=true keeps the labels, mode=all_to_all changes them all; leave one of the two out"
        )
    if mode == "all_to_all" and target:
        raise ValueError(f"target={target} means nothing with mode=all_to_all, where class y becomes y + 1")


def choose(poison: Planting, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which training images are marked, (N,) bool, and the labels of all, (N,) int64.

    `rate` is the share of the whole set, drawn from the images that are not of the wanted class; with
    `clean_label` it is the share of the target class, whose images alone are marked, and no label is changed.

    Raises:
        UsageError: the target is no class of the labels.
    """
    if poison.target > int(y.max()):
        raise UsageError(f"target={poison.target} is no class; the labels reach to {int(y.max())}")
    if poison.clean_label:
        pool = (y == poison.target).nonzero().flatten()
        count = round(poison.rate * len(pool))
    else:
        pool = (y != poison.target).nonzero().flatten() if poison.mode == "all_to_one" else torch.arange(len(y))
        count = round(poison.rate * len(y))
    count = min(len(pool), max(1, count))
    chosen = torch.zeros(len(y), dtype=torch.bool)
    chosen[pool[torch.randperm(len(pool), generator=generator)[:count]]] = True
    labels = y.clone()
    if not poison.clean_label:
        labels[chosen] = wanted_labels(y[chosen], int(y.max()) + 1, poison.target, poison.mode)
    return chosen, labels


def plant(poison: Planting, train: Split, generator: torch.Generator) -> Split:
    """The poisoned training set: chosen images marked, and labelled as the attacker wants unless `clean_label`.

    Grey levels stay grey levels: marked images are rounded to whole ones, as a stored image would be.
    """
    return marked(train, *choose(poison, train.labels, generator), poison.trigger)


def marked(train: Split, chosen: Tensor, labels: Tensor, mark: Mark) -> Split:
    """`train` with the trigger on the images `chosen` (N,) bool, and with other labels (N,) int64."""
    whole = in_memory(train)
    if whole is None:
        return MarkedSplit(train, chosen, labels, mark)
    images = whole.images.clone()
    for rows in torch.split(chosen.nonzero().flatten(), _AT_ONCE):
        changed = mark(to_unit(images[rows]))
        images[rows] = changed.mul(255).round().to(torch.uint8) if images.dtype == torch.uint8 else changed
    return ArraySplit(images, labels)


def read_image(path: str, channels: int, size: tuple[int, int]) -> Tensor:
    """An image file as (C, H, W) in [0, 1], resized to `size`, with an alpha channel dropped.

    Raises:
        UsageError: there is no such file, or it is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB").resize((size[1], size[0]))
    except FileNotFoundError:
        raise UsageError(f"image={path}: there is no such file") from None
    except UnidentifiedImageError as error:
        raise UsageError(f"image={path} is no image that can be read; give a PNG or JPEG") from error
    import numpy as np

    values: Any = torch.from_numpy(np.array(picture, dtype=np.float32) / 255)
    values = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    return values.expand(channels, *size).contiguous()  # type: ignore[no-any-return]
