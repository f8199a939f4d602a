"""Arrays in an npz file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from robustkit.contracts import Data, Split, Threat
from robustkit.data.recipes import DIGITS, OBJECTS
from robustkit.data.remote import local_path, place_of, told
from robustkit.data.splits import ArraySplit, check_unit_range, fingerprint, holdout, validation_size
from robustkit.params import UsageError, param

Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Npz:
    """Images and labels in one npz file (`numpy.savez`).

    Arrays `x_train`, `y_train`, `x_test`, `y_test`; or `x` and `y`, of which a random fifth (fixed seed) is for
    testing. A part of the training images is for validation.

    Fields:
        path: of the file, or a URL that fsspec understands, which is read whole.

    Shapes: images (N, C, H, W), (N, H, W, C) or (N, H, W), C of 1 or 3; uint8 grey levels, or floats in [0, 1].
    Labels (N,) whole numbers from 0. Images that are normalised or floats on the scale of 255 are refused.
    """

    path: str = param(help="of the file, or a URL")

    def __call__(self, data_dir: Path | None = None) -> Data:
        arrays = read_arrays(self.path)
        if "x" in arrays:
            whole = _split(arrays, "x", "y", self.path)
            train, test = holdout(whole, max(1, len(whole) // 5), where=self._where)
        else:
            train = _split(arrays, "x_train", "y_train", self.path)
            test = _split(arrays, "x_test", "y_test", self.path)
        rest, val = holdout(train, validation_size(len(train)), where=self._where)
        images = test.batch(torch.arange(1))[0]
        shape = (images.shape[1], images.shape[2], images.shape[3])
        if train.batch(torch.arange(1))[0].shape[1:] != images.shape[1:]:
            raise UsageError(f"{self._where}: images of x_train and x_test have different shapes")
        count = 1 + int(max(train.labels.max(), test.labels.max()))
        return Data(
            name=self._where,
            classes=tuple(str(k) for k in range(count)),
            shape=shape,
            threat=Threat("linf", 8 / 255),
            train=rest,
            val=val,
            test=test,
            fingerprint=fingerprint(train, test),
            recipe=DIGITS if shape[0] == 1 else OBJECTS,
        )

    @property
    def _where(self) -> str:
        return f"npz:{self.path}"


def read_arrays(path: str | Path) -> Arrays:
    """The arrays of an npz file, named by a path or a URL.

    Raises:
        UsageError: no such file, or one that holds more than numbers.
    """
    local = local_path(str(path))
    if local is not None and not local.is_file():
        raise UsageError(f"npz:{path}: there is no such file")
    fetched = _fetched(str(path)) if local is None else None
    try:
        with _opened(local, fetched) as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise UsageError(
            f"npz:{path} cannot be read ({error}); write it with numpy.savez_compressed(path, x=..., y=...), "
            "arrays of numbers only"
        ) from error


def _opened(local: Path | None, fetched: bytes | None) -> IO[bytes]:
    return local.open("rb") if local is not None else io.BytesIO(fetched or b"")


def _fetched(url: str) -> bytes:
    place = place_of(url, f"npz:{url}")
    with told(f"npz:{url}"):
        content: bytes = place.fs.cat_file(place.path)
    return content


def _split(arrays: Arrays, x: str, y: str, path: str) -> Split:
    for name in (x, y):
        if name not in arrays:
            raise UsageError(
                f"npz:{path} has no array {name!r}, only {', '.join(sorted(arrays)) or 'nothing'}; "
                "it needs x and y, or x_train, y_train, x_test and y_test"
            )
    images, labels = images_of(arrays[x], f"npz:{path}: {x!r}"), labels_of(arrays[y], f"npz:{path}: {y!r}")
    if len(images) < 2 or len(images) != len(labels):
        raise UsageError(f"npz:{path}: {len(images)} images in {x!r} and {len(labels)} labels in {y!r}")
    return ArraySplit(images, labels)


def images_of(array: np.ndarray[Any, Any], where: str) -> Tensor:
    """uint8 stays uint8, whole numbers up to 255 become it, floats become float32."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size:
        raise UsageError(f"{where} is {array.shape}; images are (N, C, H, W), (N, H, W, C) or (N, H, W), C 1 or 3")
    if array.dtype.kind == "f":
        images = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        check_unit_range(images, where)
        return images
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise UsageError(f"{where} is {array.dtype}; give uint8 grey levels from 0 to 255, or floats in [0, 1]")
    if array.max() <= 1:
        raise UsageError(f"{where} holds whole numbers of at most 1; grey levels reach 255: store x * 255")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.uint8))


def labels_of(array: np.ndarray[Any, Any], where: str) -> Tensor:
    """(N,) or (N, 1) whole numbers from 0 → (N,) int64."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UsageError(f"{where} is {array.shape}; labels are (N,), class numbers from 0 (one-hot: y.argmax(1))")
    if array.dtype.kind not in "iuf" or not array.size or (array != np.floor(array)).any() or array.min() < 0:
        raise UsageError(f"{where} is {array.dtype}; labels are whole numbers from 0")
    return torch.from_numpy(array.astype(np.int64))
