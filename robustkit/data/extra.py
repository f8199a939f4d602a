"""More training images from an npz file: generated ones, or images that were attacked and saved."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robustkit.contracts import Data
from robustkit.data.npz import images_of, labels_of, read_arrays
from robustkit.data.splits import ArraySplit, to_unit
from robustkit.params import UsageError

_IMAGES = ("x_adv", "image", "images", "x_train", "x")
_LABELS = ("labels", "label", "y_train", "y")


def read_extra(path: Path, data: Data) -> ArraySplit:
    """Images like those of `data`, with labels.

    Names of the arrays: of the images the first there is of `x_adv`, `image` (as the generated sets of Wang et al.
    2023, https://arxiv.org/abs/2302.04638, are published), `images`, `x_train`, `x`; of the labels `labels`, `label`,
    `y_train`, `y`.

    Raises:
        UsageError: no such file or arrays, another shape of image, more classes, images outside [0, 1], or attacked
            images of the test part.
    """
    where = f"extra={path}"
    arrays = read_arrays(path)
    x = next((name for name in _IMAGES if name in arrays), None)
    y = next((name for name in _LABELS if name in arrays), None)
    if x is None or y is None:
        raise UsageError(
            f"{where} has the arrays {', '.join(sorted(arrays)) or 'none'}; it needs images "
            f"({', '.join(_IMAGES)}) and labels ({', '.join(_LABELS)})"
        )
    if x == "x_adv" and "x" in arrays:
        _refuse_test_images(images_of(arrays["x"], f"{where}: 'x'"), data, where)
    images, labels = images_of(arrays[x], f"{where}: {x!r}"), labels_of(arrays[y], f"{where}: {y!r}")
    if len(images) != len(labels):
        raise UsageError(f"{where}: {len(images)} images in {x!r} and {len(labels)} labels in {y!r}")
    if tuple(images.shape[1:]) != tuple(data.shape):
        raise UsageError(f"{where} has images of {tuple(images.shape[1:])}, {data.name} of {tuple(data.shape)}")
    if int(labels.max()) >= len(data.classes):
        raise UsageError(
            f"{where} has labels up to {int(labels.max())}; {data.name} has the {len(data.classes)} classes from 0 to "
            f"{len(data.classes) - 1}"
        )
    return ArraySplit(images, labels)


def _refuse_test_images(images: Tensor, data: Data, where: str) -> None:
    """`robustkit attack` attacks test images; a network that was trained on them would be judged by them."""
    count = min(len(images), len(data.test), 8)
    if tuple(images.shape[1:]) != tuple(data.shape):
        return
    test, _ = data.test.batch(torch.arange(count))
    if torch.allclose(to_unit(images[:count]), test, atol=1e-6):
        raise UsageError(
            f"{where} holds attacked images of the test part of {data.name}, by which the network will be judged; "
            "attack training images instead, and save them with numpy.savez(path, x_adv=..., y=...)"
        )
