"""Arrays in an npz file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from robustkit.contracts import Data, Split, Threat
from robustkit.data.recipes import DIGITS, OBJECTS
from robustkit.data.splits import ArraySplit, check_unit_range, fingerprint, holdout, validation_size
from robustkit.params import UsageError, param


@dataclass(frozen=True, kw_only=True)
class Npz:
    """Images and labels in one npz file.

    Either arrays `x_train`, `y_train`, `x_test`, `y_test`, or `x` and `y`, of which the last fifth tests.
    Images are (N, C, H, W), (N, H, W) or (N, H, W, C) with C of 1 or 3; uint8 grey levels, or floats in [0, 1].

    Fields:
        path: of the file.

    Errors: UsageError for a missing file or array, for shapes that don't fit, for images that are already
    normalised or on another scale.
    """

    path: str = param(help="of the file")

    def __call__(self, data_dir: Path | None = None) -> Data:
        arrays = _read(Path(self.path))
        if "x_train" in arrays:
            train = _split(arrays, "x_train", "y_train", self.path)
            test = _split(arrays, "x_test", "y_test", self.path)
        else:
            whole = _split(arrays, "x", "y", self.path)
            cut = len(whole) - max(1, len(whole) // 5)
            train = ArraySplit(whole.images[:cut], whole.labels[:cut])
            test = ArraySplit(whole.images[cut:], whole.labels[cut:])
        count = int(max(train.labels.max(), test.labels.max())) + 1
        rest: Split
        rest, val = holdout(train, validation_size(len(train)))
        shape = (int(train.images.shape[1]), int(train.images.shape[2]), int(train.images.shape[3]))
        return Data(
            name=f"npz:{self.path}",
            classes=tuple(str(k) for k in range(count)),
            shape=shape,
            threat=Threat("linf", 8 / 255),
            train=rest,
            val=val,
            test=test,
            fingerprint=fingerprint([train, test]),
            recipe=DIGITS if shape[0] == 1 else OBJECTS,
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UsageError(f"npz:{path}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except ValueError as error:
        raise UsageError(f"npz:{path} cannot be read: {error}") from error


def _split(arrays: dict[str, np.ndarray], x: str, y: str, path: str) -> ArraySplit:
    for name in (x, y):
        if name not in arrays:
            raise UsageError(f"npz:{path} has no array {name!r}; it has {', '.join(sorted(arrays))}")
    images = torch.from_numpy(arrays[x])
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.permute(0, 3, 1, 2).contiguous()
    if images.dtype != torch.uint8:
        images = images.float()
        check_unit_range(images, f"npz:{path}: images {x!r}")
    labels = torch.from_numpy(arrays[y]).long()
    if labels.ndim != 1 or (len(labels) and int(labels.min()) < 0):
        raise UsageError(f"npz:{path}: labels {y!r} must be (N,) whole numbers from 0; they are {labels.shape}")
    return ArraySplit(images, labels)
