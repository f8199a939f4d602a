"""Photographs: decoded, brought to one size, and what is usual for them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.contracts import Data, Split, Threat
from robustkit.data.recipes import LARGE, OBJECTS
from robustkit.params import UsageError

THREADS = min(8, os.cpu_count() or 1)
HASHED_WHOLE = 256 * 2**20
"""Bytes; larger sets are told apart by names, sizes and times."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


def decoded(source: str | IO[bytes], name: str, size: int) -> Pixels:
    """An image file as RGB, uint8 (size, size, 3).

    It is scaled with antialiasing until its short side is 8/7 of `size` (256 for 224), and its centre is cut out; an
    image that has the size already is left alone.

    Raises:
        UsageError: it cannot be decoded; `name` says which.
    """
    try:
        with Image.open(source) as file:
            image = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name} cannot be decoded ({error}); repair or remove it") from error
    if image.size != (size, size):
        image = _centre(image, size)
    return np.asarray(image)


def _centre(image: Image.Image, size: int) -> Image.Image:
    """Short side to 8/7 of `size`, then the middle `size` x `size`; rounding as in torchvision's transforms."""
    short = round(size * 8 / 7)
    side = min(image.size)
    scaled = (int(short * image.width / side), int(short * image.height / side))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def in_threads(work: Any, items: Iterable[Any]) -> list[Any]:
    """`work` of every item, in their order, on a few threads; the first error ends it."""
    given = list(items)
    if not given:
        return []
    with ThreadPoolExecutor(min(THREADS, len(given))) as pool:
        return list(pool.map(work, given))


def stacked(images: list[Pixels], size: int) -> Tensor:
    """(n, 3, size, size) float32 in [0, 1], of uint8 (size, size, 3)."""
    if not images:
        return torch.empty(0, 3, size, size)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)
    return x.contiguous()


def photographs(
    name: str, classes: tuple[str, ...], size: int, train: Split, val: Split, test: Split, fingerprint: str
) -> Data:
    """A set of square RGB images with what is usual for its size."""
    large = size >= 64
    return Data(
        name=name,
        classes=classes,
        shape=(3, size, size),
        threat=Threat("linf", 4 / 255 if large else 8 / 255),
        train=train,
        val=val,
        test=test,
        fingerprint=fingerprint,
        mean=(0.485, 0.456, 0.406),  # of ImageNet
        std=(0.229, 0.224, 0.225),
        recipe=LARGE if large else OBJECTS,
    )
