"""Checks of poisons, data sources and architectures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from robustkit.contracts import Data
from robustkit.params import UsageError
from robustkit.testing import small
from robustkit.testing.subject import Part, Subject, alike, in_box, seed_all, silence_required
from robustkit.testing.yardstick import CLASSES, SHAPE, images

if TYPE_CHECKING:
    from torch import Tensor


def poison_parts(subject: Subject) -> Iterator[Part]:
    yield Part("poisoned_set", partial(_poisoned_set, subject))
    yield Part("trigger", partial(_trigger, subject))
    yield Part("same_seed", partial(_poison_same_seed, subject))


def dataset_parts(subject: Subject) -> Iterator[Part]:
    yield Part("data", partial(_data, subject))


def model_parts(subject: Subject) -> Iterator[Part]:
    yield Part("logits", partial(_logits, subject))
    yield Part("same_seed", partial(_model_same_seed, subject))


def _poisoned_set(subject: Subject) -> None:
    train = small.data().train
    x, y = small.whole(train)
    kept = x.clone(), y.clone()
    with silence_required():
        poisoned = subject.build()(train, torch.Generator().manual_seed(1))
    after = small.whole(train)
    assert torch.equal(after[0], kept[0]), "the clean images were changed in place"
    assert torch.equal(after[1], kept[1]), "the clean labels were changed in place"
    x, y = small.whole(poisoned)
    alike(x[:1], kept[0][:1], "images")
    in_box(x, "images")
    assert torch.equal(poisoned.labels, y), "labels disagree with those of the batches"
    _are_classes(y, CLASSES, "labels")
    same = len(x) == len(kept[0]) and torch.equal(x, kept[0]) and torch.equal(y, kept[1])
    assert not same, "nothing is poisoned"


def _trigger(subject: Subject) -> None:
    x = images()
    kept = x.clone()
    marked = subject.build().trigger(x)
    assert torch.equal(x, kept), "x was changed in place"
    alike(marked, x, "trigger")
    in_box(marked, "trigger")
    assert not torch.equal(marked, x), "the trigger changes nothing"


def _poison_same_seed(subject: Subject) -> None:
    train = small.data().train
    first, again = (small.whole(subject.build()(train, torch.Generator().manual_seed(1))) for _ in range(2))
    same = torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert same, "the same generator gives another set"


def _data(subject: Subject) -> None:
    source = subject.build()
    with tempfile.TemporaryDirectory() as folder:
        try:
            data = source(Path(folder))
        except UsageError:
            return  # no files and no network here: it says so, which is all that is asked
        assert isinstance(data, Data), f"it returned a {type(data).__name__}, not Data"
        for name in ("train", "val", "test"):
            split = getattr(data, name)
            count = min(len(split), 4)
            x, y = split.batch(torch.arange(count))
            assert x.shape == (count, *data.shape), f"{name}: images {tuple(x.shape)}, not {data.shape}"
            assert x.dtype == torch.float32, f"{name}: images in {x.dtype}"
            in_box(x, f"{name}: images")
            assert y.dtype == torch.int64, f"{name}: labels in {y.dtype}"
            assert torch.equal(split.labels[:count], y), f"{name}: labels disagree with those of the batch"
            assert len(split.labels) == len(split), f"{name}: {len(split.labels)} labels, {len(split)} images"
            _are_classes(split.labels, len(data.classes), name)


def _are_classes(y: Tensor, classes: int, what: str) -> None:
    low, high = int(y.min()), int(y.max())
    assert min(low, classes - 1 - high) >= 0, f"{what}: values from {low} to {high} for {classes} classes"


def _logits(subject: Subject) -> None:
    architecture = subject.build()
    with silence_required():
        model = architecture(SHAPE, CLASSES).eval()
        with torch.no_grad():
            logits = model(images(2))
    assert logits.shape == (2, CLASSES), f"logits of shape {tuple(logits.shape)}, not (2, {CLASSES})"
    assert logits.dtype == torch.float32, f"logits in {logits.dtype}"


def _model_same_seed(subject: Subject) -> None:
    states = []
    for _ in range(2):
        seed_all(3)
        states.append(subject.build()(SHAPE, CLASSES).state_dict())
    assert states[0].keys() == states[1].keys(), "other parameters at the second call"
    different = [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
    assert not different, f"the same seed gives other weights: {', '.join(different[:5])}"
