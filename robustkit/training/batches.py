"""Shuffled training batches on the device; small sets stay there as uint8."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from robustkit.contracts import Recipe, Split
from robustkit.data.splits import in_memory, to_unit
from robustkit.params import UsageError
from robustkit.training.augment import augment
from robustkit.training.seeds import stream


class Batches:
    """The training set in a new order each epoch, in batches of one size.

    A last batch that would be smaller is left out: BatchNorm dislikes it, and the perturbation that free
    adversarial training keeps needs one shape. The order depends on seed and epoch alone.

    Raises:
        UsageError: no samples, or batches of none.
    """

    def __init__(self, train: Split, recipe: Recipe, device: torch.device, seed: int) -> None:
        if not len(train):
            raise UsageError("there are no training samples")
        if recipe.batch_size < 1:
            raise UsageError(f"batch_size={recipe.batch_size} must be at least 1")
        self.size = min(recipe.batch_size, len(train))
        self._train = train
        self._recipe = recipe
        self._device = device
        self._seed = seed
        array = in_memory(train)
        self._images = None if array is None else array.images.to(device)
        self._labels = train.labels.to(device)

    def __len__(self) -> int:
        return len(self._train) // self.size

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x (B, C, H, W) float32 in [0, 1] and y (B,) int64 on the device."""
        generator = torch.Generator().manual_seed(stream(self._seed, number, "batches"))
        order = torch.randperm(len(self._train), generator=generator)
        chunks = list(order[: len(self) * self.size].reshape(len(self), self.size))
        for index, x in zip(chunks, self._read(chunks), strict=True):
            yield augment(x, self._recipe.augment, generator), self._labels[index.to(self._device)]

    def _read(self, chunks: list[Tensor]) -> Iterator[Tensor]:
        """The images of each chunk; where they come from disk, the next is read while this one is trained on."""
        if self._images is not None:
            for index in chunks:
                yield to_unit(self._images[index.to(self._device)])
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._train.batch, chunks[0])
            for index in chunks[1:]:
                x, _ = ahead.result()
                ahead = reader.submit(self._train.batch, index)
                yield x.to(self._device)
            yield ahead.result()[0].to(self._device)
