"""Parts of a data set: arrays in memory as uint8, views of other parts, and their content's hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.contracts import Split
from robustkit.params import UsageError

_HASHED_AT_ONCE = 4096


@dataclass(frozen=True)
class ArraySplit:
    """Images in memory.

    Args:
        images: (N, C, H, W), uint8 grey levels (0 to 255), or float32 already in [0, 1].
        labels: (N,) int64.

    Raises:
        UsageError: shapes that don't fit, another dtype, or floats outside [0, 1].
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) != len(self.labels):
            raise UsageError(
                f"images {tuple(self.images.shape)} and labels {tuple(self.labels.shape)} must be (N, C, H, W) and (N,)"
            )
        if self.images.dtype not in (torch.uint8, torch.float32):
            raise UsageError(f"images are {self.images.dtype}; give uint8 in 0..255 or float32 in [0, 1]")
        if self.images.dtype == torch.float32:
            check_unit_range(self.images, "images")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return to_unit(self.images[index]), self.labels[index]


@dataclass(frozen=True)
class Subset:
    """Some samples of another split, in the order of `index` (n,) int64."""

    of: Split
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> Tensor:
        return self.of.labels[self.index]

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.of.batch(self.index[index])


def to_unit(images: Tensor) -> Tensor:
    """Grey levels → float32 in [0, 1]; floats pass."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def check_unit_range(images: Tensor, where: str) -> None:
    """Refuse float images that are not in [0, 1], with what they probably are.

    Raises:
        UsageError: with the range found and the remedy.
    """
    if not images.numel():
        return
    low, high = float(images.min()), float(images.max())
    if not bool(torch.isfinite(images).all()):
        raise UsageError(f"{where} hold values that are not finite")
    if low >= 0 and high <= 1:
        return
    if low >= 0 and high <= 255:
        remedy = "they look like grey levels: store them as uint8, or divide by 255"
    else:
        remedy = "they look normalised: undo it (x * std + mean); normalisation belongs into the model"
    raise UsageError(f"{where} reach from {low:g} to {high:g}, not within [0, 1]; {remedy}")


def in_memory(split: Split) -> ArraySplit | None:
    """The split as one array in memory if that is what it is, else None. Subsets of arrays are copied."""
    if isinstance(split, ArraySplit):
        return split
    if isinstance(split, Subset):
        whole = in_memory(split.of)
        return None if whole is None else ArraySplit(whole.images[split.index], whole.labels[split.index])
    return None


def holdout(split: Split, size: int, seed: int = 0, *, where: str = "data") -> tuple[Split, Split]:
    """Cut `size` random samples off; returns (rest, held out), disjoint and together the whole.

    Equal seeds cut equally, on every machine. Arrays in memory stay arrays. `where` names the data in errors.

    Raises:
        UsageError: one of the two parts would be empty.
    """
    if not 0 < size < len(split):
        raise UsageError(f"{where}: cannot hold out {size} of {len(split)} samples")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    rest, held = order[size:].sort().values, order[:size].sort().values
    whole = in_memory(split)
    if whole is not None:
        return (
            ArraySplit(whole.images[rest], whole.labels[rest]),
            ArraySplit(whole.images[held], whole.labels[held]),
        )
    return Subset(split, rest), Subset(split, held)


def validation_size(count: int) -> int:
    """How many of `count` training samples validate: 5 %, at least 500 (of small sets a fifth), at most 5,000."""
    return max(1, min(max(count // 20, min(500, count // 5)), 5000))


def fingerprint(*parts: Split) -> str:
    """SHA-256 over shapes, images and labels of the parts in their order; 64 hex digits.

    Cost: reads every image; 0.2 s for the 60,000 images of CIFAR-10 in memory.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)};".encode())
        digest.update(part.labels.contiguous().numpy().tobytes())
        array = in_memory(part)
        if array is not None:
            _add(digest, array.images)
            continue
        for start in range(0, len(part), _HASHED_AT_ONCE):
            _add(digest, part.batch(torch.arange(start, min(start + _HASHED_AT_ONCE, len(part))))[0])
    return digest.hexdigest()


def _add(digest: hashlib._Hash, images: Tensor) -> None:
    digest.update(f"{images.dtype} {tuple(images.shape)};".encode())
    digest.update(images.contiguous().numpy().data)
