from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robustkit.contracts import Recipe
from robustkit.data.splits import ArraySplit, Subset
from robustkit.params import UsageError
from robustkit.training.batches import Batches

CPU = torch.device("cpu")


def numbered(count: int) -> ArraySplit:
    """Image k is filled with k, its label is k too."""
    values = torch.arange(count)
    return ArraySplit(values.to(torch.uint8)[:, None, None, None].expand(count, 1, 4, 4).contiguous(), values)


class OnDisk:
    """A split that is never in memory as a whole; remembers what was asked for."""

    def __init__(self, inner: ArraySplit) -> None:
        self.inner = inner
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def labels(self) -> Tensor:
        return self.inner.labels

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(len(index))
        return self.inner.batch(index)


def test_an_epoch_has_every_sample_once_with_its_label_but_for_a_smaller_last_batch() -> None:
    batches = Batches(numbered(103), Recipe(batch_size=10), CPU, seed=0)
    epoch = list(batches.epoch(0))
    assert len(batches) == len(epoch) == 10
    labels = torch.cat([y for _, y in epoch])
    assert len(labels.unique()) == 100
    for x, y in epoch:
        assert x.shape == (10, 1, 4, 4)
        assert x.dtype == torch.float32
        assert torch.equal(x[:, 0, 0, 0], y.float() / 255)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(numbered(60), Recipe(batch_size=20), CPU, seed)
        return torch.cat([y for _, y in batches.epoch(epoch)]).tolist()

    assert order(0, 1) == order(0, 1)
    orders = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    before = torch.get_rng_state()
    order(0, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("augment", ["none", "shift", "crop_flip"])
def test_what_is_read_from_disk_is_the_same_and_one_batch_ahead(augment: str) -> None:
    recipe = Recipe(batch_size=8, augment=augment)  # type: ignore[arg-type]
    source = OnDisk(numbered(50))
    read = Batches(source, recipe, CPU, seed=3).epoch(2)
    held = Batches(numbered(50), recipe, CPU, seed=3).epoch(2)
    for number, ((x, y), (x_held, y_held)) in enumerate(zip(read, held, strict=True)):
        assert torch.equal(x, x_held)
        assert torch.equal(y, y_held)
        assert len(source.asked) <= number + 2
    assert source.asked == [8] * 6


def test_an_error_while_reading_reaches_the_caller() -> None:
    class Torn(OnDisk):
        def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
            if len(self.asked) == 2:
                raise UsageError("picture.png cannot be decoded")
            return super().batch(index)

    with pytest.raises(UsageError, match=r"picture\.png"):
        list(Batches(Torn(numbered(50)), Recipe(batch_size=10), CPU, seed=0).epoch(0))


def test_a_part_of_an_array_and_a_set_smaller_than_a_batch() -> None:
    part = Subset(numbered(50), torch.arange(40, 45))
    ((x, y),) = Batches(part, Recipe(batch_size=100), CPU, seed=0).epoch(0)
    assert sorted(y.tolist()) == [40, 41, 42, 43, 44]
    assert torch.equal(x[:, 0, 0, 0], y.float() / 255)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UsageError, match="no training samples"):
        Batches(numbered(0), Recipe(), CPU, seed=0)
    with pytest.raises(UsageError, match="batch_size=0"):
        Batches(numbered(5), Recipe(batch_size=0), CPU, seed=0)
