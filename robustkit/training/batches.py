"""Shuffled training batches on the device; small sets stay there as uint8."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from robustkit.contracts import Recipe, Split
from robustkit.data.splits import check_unit_range, in_memory, to_unit
from robustkit.params import UsageError
from robustkit.training.augment import augment
from robustkit.training.seeds import stream


class Batches:
    """The training set in a new order each epoch, in batches of one size.

    A last batch that would be smaller is left out: BatchNorm dislikes it, and the perturbation that free
    adversarial training keeps needs one shape. The order depends on seed and epoch alone.

    With `extra`, the recipe's `extra_share` of each batch comes from there instead, shuffled among the others, and an
    epoch has as many batches as without (Gowal et al. 2021, https://arxiv.org/abs/2110.09468).

    Raises:
        UsageError: no samples, batches of none, or images outside [0, 1].
    """

    def __init__(
        self, train: Split, recipe: Recipe, device: torch.device, seed: int, extra: Split | None = None
    ) -> None:
        if not len(train):
            raise UsageError("there are no training samples")
        if recipe.batch_size < 1:
            raise UsageError(f"batch_size={recipe.batch_size} must be at least 1")
        self.size = min(recipe.batch_size, len(train))
        self._train = _Source(train, device)
        self._extra = None if extra is None else _Source(extra, device)
        self._from_extra = 0 if extra is None else round(recipe.extra_share * self.size)
        self._recipe = recipe
        self._device = device
        self._seed = seed

    def __len__(self) -> int:
        return len(self._train) // self.size

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x (B, C, H, W) float32 in [0, 1] and y (B,) int64 on the device."""
        generator = torch.Generator().manual_seed(stream(self._seed, number, "batches"))
        order = torch.randperm(len(self._train), generator=generator)
        chunks = order[: len(self) * self.size].reshape(len(self), self.size)[:, self._from_extra :]
        batches = self._train.read(list(chunks))
        if self._extra is not None:
            batches = self._mixed(batches, self._extra, number)
        for x, y in batches:
            yield augment(x, self._recipe.augment, generator), y

    def _mixed(self, batches: Iterator[_Batch], extra: _Source, number: int) -> Iterator[_Batch]:
        generator = torch.Generator().manual_seed(stream(self._seed, number, "extra"))
        wanted = len(self) * self._from_extra
        rounds = range(-(-wanted // len(extra)))
        order = torch.cat([torch.randperm(len(extra), generator=generator) for _ in rounds] or [torch.empty(0).long()])
        more = extra.read(list(order[:wanted].reshape(len(self), self._from_extra)))
        for (x, y), (x_more, y_more) in zip(batches, more, strict=True):
            shuffled = torch.randperm(self.size, generator=generator).to(self._device)
            yield torch.cat([x, x_more])[shuffled], torch.cat([y, y_more])[shuffled]


_Batch = tuple[Tensor, Tensor]


class _Source:
    """Images and labels by index: from the device where they are in memory, else from disk."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._split = split
        self._device = device
        array = in_memory(split)
        self._images = None if array is None else array.images.to(device)
        self._labels = split.labels.to(device)

    def __len__(self) -> int:
        return len(self._split)

    def read(self, chunks: list[Tensor]) -> Iterator[_Batch]:
        """The samples of each chunk; where they come from disk, the next is read while this one is trained on."""
        if self._images is not None:
            for index in chunks:
                index = index.to(self._device)
                yield to_unit(self._images[index]), self._labels[index]
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._split.batch, chunks[0])
            for position, index in enumerate(chunks):
                x, _ = ahead.result()
                if position + 1 < len(chunks):
                    ahead = reader.submit(self._split.batch, chunks[position + 1])
                check_unit_range(x, "training images")
                yield x.to(self._device), self._labels[index.to(self._device)]
