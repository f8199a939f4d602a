"""Shuffled training batches on the device; small sets stay there as uint8."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustkit.contracts import Recipe, Split
from robustkit.data.splits import in_memory, to_unit
from robustkit.params import UsageError
from robustkit.training.augment import augment


class Batches:
    """The training set in a new order each epoch, in batches of one size.

    A last batch that would be smaller is left out: BatchNorm dislikes it, and the perturbation that free
    adversarial training keeps needs one shape. The order depends on seed and epoch alone.
    """

    def __init__(self, train: Split, recipe: Recipe, device: str, seed: int) -> None:
        if not len(train):
            raise UsageError("there are no training samples")
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
        generator = torch.Generator().manual_seed(hash((self._seed, number)) % 2**63)
        order = torch.randperm(len(self._train), generator=generator)
        for start in range(0, len(self) * self.size, self.size):
            index = order[start : start + self.size]
            if self._images is None:
                x = self._train.batch(index)[0].to(self._device)
            else:
                x = to_unit(self._images[index.to(self._device)])
            yield augment(x, self._recipe.augment, generator), self._labels[index.to(self._device)]
