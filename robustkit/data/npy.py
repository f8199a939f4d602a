"""Arrays in npy files, read from disk by index: sets that are larger than memory, or shared by many processes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.contracts import Data, Shape, Threat
from robustkit.data.npz import labels_of
from robustkit.data.recipes import DIGITS, OBJECTS
from robustkit.data.remote import local_path
from robustkit.data.splits import holdout, validation_size
from robustkit.params import UsageError, param

_PARTS = ("x_train", "y_train", "x_test", "y_test")
_HASHED_WHOLE = 256 * 2**20  # bytes; larger sets are told apart by sizes, times and labels


@dataclass(frozen=True, kw_only=True)
class Npy:
    """Images in npy files (`numpy.save`) that are mapped into memory and never loaded as a whole.

    PATH holds x_train.npy, y_train.npy, x_test.npy and y_test.npy. A part of the training images is for validation.

    Fields:
        path: of the folder.

    Shapes: images uint8 (N, C, H, W) or (N, H, W, C), C of 1 or 3; labels (N,) whole numbers from 0.
    """

    path: str = param(help="of the folder")

    def __call__(self, data_dir: Path | None = None) -> Data:
        root, where = local_path(self.path), f"npy:{self.path}"
        if root is None:
            raise UsageError(
                f"{where}: files that are mapped into memory lie on this machine; copy them, or give a URL to npz:, "
                "imagefolder: or webdataset:"
            )
        files = {name: root / f"{name}.npy" for name in _PARTS}
        missing = [file.name for file in files.values() if not file.is_file()]
        if missing:
            raise UsageError(f"{where} lacks {', '.join(missing)}; write each with numpy.save(path, array)")
        whole, test = (
            MappedSplit(
                _images(files[f"x_{part}"], where),
                labels_of(np.asarray(_mapped(files[f"y_{part}"], where)), f"{where}: y_{part}"),
            )
            for part in ("train", "test")
        )
        for name, part in (("train", whole), ("test", test)):
            if len(part.images) != len(part.labels):
                raise UsageError(f"{where}: {len(part.images)} images and {len(part.labels)} labels in the {name} part")
        if whole.shape != test.shape:
            raise UsageError(f"{where}: images of {whole.shape} for training and of {test.shape} for testing")
        train, val = holdout(whole, validation_size(len(whole)), where=where)
        count = 1 + int(max(whole.labels.max(), test.labels.max()))
        return Data(
            name=where,
            classes=tuple(str(k) for k in range(count)),
            shape=whole.shape,
            threat=Threat("linf", 8 / 255),
            train=train,
            val=val,
            test=test,
            fingerprint=_fingerprint(list(files.values())),
            recipe=DIGITS if whole.shape[0] == 1 else OBJECTS,
        )


@dataclass(frozen=True)
class MappedSplit:
    """Images on disk, uint8 (N, C, H, W) or (N, H, W, C), and their labels (N,) int64 in memory.

    Cost: a read of the images that are asked for, or less where the system still holds them.
    """

    images: np.ndarray[Any, np.dtype[np.uint8]]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        _, first, second, third = self.images.shape
        return (third, first, second) if self._channels_last else (first, second, third)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        order = index.argsort()  # in the order of the disk
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        found = torch.from_numpy(self.images[index[order].numpy()])[back]
        if self._channels_last:
            found = found.permute(0, 3, 1, 2)
        return found.contiguous().float().div_(255), self.labels[index]

    @property
    def _channels_last(self) -> bool:
        return self.images.shape[1] not in (1, 3)


def _mapped(file: Path, where: str) -> np.ndarray[Any, Any]:
    try:
        found: np.ndarray[Any, Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"{where}: {file.name} cannot be read ({error}); write it with numpy.save") from error
    return found


def _images(file: Path, where: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    array = _mapped(file, where)
    if array.ndim != 4 or not {1, 3} & {array.shape[1], array.shape[3]} or len(array) < 2:
        raise UsageError(f"{where}: {file.name} is {array.shape}; images are (N, C, H, W) or (N, H, W, C), C 1 or 3")
    if array.dtype != np.uint8:
        raise UsageError(
            f"{where}: {file.name} is {array.dtype}; store grey levels from 0 to 255 as uint8 "
            "(from [0, 1]: (x * 255).round().astype('uint8')); normalisation belongs into the model"
        )
    return array


def _fingerprint(files: list[Path]) -> str:
    """SHA-256 over the files' contents; of large ones, over size and time instead."""
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size};".encode())
        if stat.st_size <= _HASHED_WHOLE:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        else:
            digest.update(str(stat.st_mtime_ns).encode())
    return digest.hexdigest()
