from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustkit.data.splits import ArraySplit, Subset, check_unit_range, fingerprint, holdout, validation_size
from robustkit.params import UsageError


class Streamed:
    """A split that is not in memory: its images are its labels, as grey."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        y = self.labels[index]
        return (y.float() / 255).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2), y


def numbered(count: int) -> ArraySplit:
    """Image k is filled with k modulo 256 and has the label k."""
    labels = torch.arange(count)
    return ArraySplit((labels % 256).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone(), labels)


@given(count=st.integers(2, 400), share=st.floats(0.01, 0.99), seed=st.integers(0, 2**31), streamed=st.booleans())
@settings(deadline=None, max_examples=60)
def test_holdout_is_disjoint_complete_and_deterministic(count: int, share: float, seed: int, streamed: bool) -> None:
    whole = Streamed(torch.arange(count)) if streamed else numbered(count)
    size = min(count - 1, max(1, int(share * count)))
    rest, held = holdout(whole, size, seed)
    assert len(held) == size
    assert len(rest) == count - size
    assert sorted([*rest.labels.tolist(), *held.labels.tolist()]) == list(range(count))
    again = holdout(whole, size, seed)
    assert torch.equal(again[0].labels, rest.labels)
    assert torch.equal(again[1].labels, held.labels)
    for part in (rest, held):
        x, y = part.batch(torch.arange(len(part)))
        assert torch.equal(y, part.labels)
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long() % 256, y % 256)


def test_another_seed_holds_out_others() -> None:
    first, second = (holdout(numbered(300), 60, seed)[1].labels.tolist() for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("size", [0, 10, 11, -1])
def test_a_holdout_that_leaves_a_part_empty_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"mine: cannot hold out {size} of 10"):
        holdout(numbered(10), size, where="mine")


def test_holdout_leaves_the_callers_random_state() -> None:
    before = torch.get_rng_state()
    holdout(numbered(50), 10, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("count", "size"),
    [(60_000, 3000), (50_000, 2500), (10_000, 500), (1_000_000, 5000), (3000, 500), (100, 20), (2, 1)],
)
def test_validation_size(count: int, size: int) -> None:
    assert validation_size(count) == size


def test_images_stay_bytes_and_come_out_in_the_unit_range() -> None:
    split = ArraySplit(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1), torch.tensor([2, 1, 0]))
    x, y = split.batch(torch.tensor([2, 1]))
    assert split.images.dtype == torch.uint8
    assert x.dtype == torch.float32
    assert x.flatten().tolist() == pytest.approx([1.0, 0.2])
    assert y.tolist() == [0, 1]


def test_a_batch_is_not_a_view_of_the_data() -> None:
    split = ArraySplit(torch.full((4, 1, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64))
    x, _ = split.batch(torch.arange(4))
    x.zero_()
    assert float(split.images.min()) == 0.5


def test_subset_of_a_subset() -> None:
    inner = Subset(Streamed(torch.arange(10)), torch.tensor([9, 7, 5, 3]))
    outer = Subset(inner, torch.tensor([2, 0]))
    assert outer.labels.tolist() == [5, 9]
    assert outer.batch(torch.tensor([1]))[1].tolist() == [9]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, 255.0], "divide by 255"),
        ([-2.1, 2.6], "look normalised"),
        ([0.0, 400.0], "look normalised"),
        ([0.0, float("nan")], "not finite"),
    ],
)
def test_other_scales_are_refused_with_what_they_look_like(values: list[float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_unit_range(torch.tensor(values), "images")
    with pytest.raises(UsageError, match=words):
        ArraySplit(torch.tensor(values).reshape(2, 1, 1, 1), torch.zeros(2, dtype=torch.int64))


def test_wrong_shapes_and_types_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(3, 2, 2\)"):
        ArraySplit(torch.zeros(3, 2, 2), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"\(2,\)"):
        ArraySplit(torch.zeros(3, 1, 2, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UsageError, match="float64"):
        ArraySplit(torch.zeros(3, 1, 2, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64))


def test_fingerprint_tells_every_change() -> None:
    images, labels = numbered(20).images, numbered(20).labels
    known = fingerprint(ArraySplit(images, labels))
    assert fingerprint(ArraySplit(images.clone(), labels.clone())) == known
    other = images.clone()
    other[13, 0, 1, 1] += 1
    swapped = labels.clone()
    swapped[[3, 4]] = labels[[4, 3]]
    variants = {
        fingerprint(ArraySplit(other, labels)),
        fingerprint(ArraySplit(images, swapped)),
        fingerprint(ArraySplit(images.reshape(20, 1, 1, 4), labels)),
        fingerprint(ArraySplit(images[:10], labels[:10]), ArraySplit(images[10:], labels[10:])),
        fingerprint(ArraySplit(images.float() / 255, labels)),
    }
    assert known not in variants
    assert len(variants) == 5


def test_fingerprint_of_a_streamed_split_and_its_subsets() -> None:
    labels = torch.arange(200)
    assert fingerprint(Streamed(labels)) == fingerprint(Streamed(labels.clone()))
    assert fingerprint(Streamed(labels)) != fingerprint(Streamed(labels.flip(0)))
    array = numbered(30)
    chosen = torch.tensor([4, 2, 9])
    assert fingerprint(Subset(array, chosen)) == fingerprint(ArraySplit(array.images[chosen], array.labels[chosen]))
