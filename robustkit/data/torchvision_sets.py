"""Well-known data sets in torchvision's folders: read from --data-dir, downloaded where files are absent."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from platformdirs import user_data_dir

from robustkit.contracts import Data, Recipe, Threat
from robustkit.data.idx import read_idx
from robustkit.data.recipes import DIGITS, HOUSE_NUMBERS, OBJECTS
from robustkit.data.splits import ArraySplit, fingerprint, holdout, validation_size
from robustkit.params import UsageError

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_PATIENCE = 30  # seconds without an answer until a download is given up


def folder_of(data_dir: Path | None) -> Path:
    """Where data sets lie: as given, else $ROBUSTKIT_DATA, else the user's data folder."""
    if data_dir is not None:
        return data_dir.expanduser()
    return Path(os.environ.get("ROBUSTKIT_DATA") or user_data_dir("robustkit"))


@dataclass(frozen=True, kw_only=True)
class MNIST:
    """MNIST (LeCun, Cortes & Burges 1998), 60,000 + 10,000 grey images of 28 x 28.

    Files: the four idx files, plain or .gz, in DATA_DIR/MNIST/raw (torchvision's folder) or DATA_DIR/mnist.
    """

    def __call__(self, data_dir: Path | None = None) -> Data:
        return _idx_set("mnist", "MNIST", tuple("0123456789"), 0.3, folder_of(data_dir))


@dataclass(frozen=True, kw_only=True)
class FashionMNIST:
    """Fashion-MNIST (Xiao et al. 2017, https://arxiv.org/abs/1708.07747), 60,000 + 10,000 grey images of 28 x 28.

    Files: the four idx files, plain or .gz, in DATA_DIR/FashionMNIST/raw or DATA_DIR/fashion_mnist.
    """

    def __call__(self, data_dir: Path | None = None) -> Data:
        return _idx_set("fashion_mnist", "FashionMNIST", _CLOTHES, 0.1, folder_of(data_dir))


@dataclass(frozen=True, kw_only=True)
class CIFAR10:
    """CIFAR-10 (Krizhevsky 2009), 50,000 + 10,000 colour images of 32 x 32.

    Files: DATA_DIR/cifar-10-batches-py, the unpacked python version.
    """

    def __call__(self, data_dir: Path | None = None) -> Data:
        mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
        return _cifar("cifar10", "CIFAR10", folder_of(data_dir), mean, std)


@dataclass(frozen=True, kw_only=True)
class CIFAR100:
    """CIFAR-100 (Krizhevsky 2009), 50,000 + 10,000 colour images of 32 x 32, 100 classes.

    Files: DATA_DIR/cifar-100-python, the unpacked python version.
    """

    def __call__(self, data_dir: Path | None = None) -> Data:
        mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
        return _cifar("cifar100", "CIFAR100", folder_of(data_dir), mean, std)


@dataclass(frozen=True, kw_only=True)
class SVHN:
    """Street View House Numbers (Netzer et al. 2011), 73,257 + 26,032 colour images of 32 x 32, cropped digits.

    Files: DATA_DIR/train_32x32.mat and DATA_DIR/test_32x32.mat.
    """

    def __call__(self, data_dir: Path | None = None) -> Data:
        from torchvision import datasets

        root = folder_of(data_dir)
        parts = []
        for part in ("train", "test"):
            files = [root / f"{part}_32x32.mat"]
            made = _open("svhn", datasets.SVHN, files, root, split=part)
            images = torch.from_numpy(np.ascontiguousarray(made.data))
            parts.append(ArraySplit(images, torch.from_numpy(np.asarray(made.labels)).long()))
        mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
        return _data("svhn", tuple("0123456789"), 8 / 255, parts, HOUSE_NUMBERS, mean, std)


def _idx_set(name: str, folder: str, classes: tuple[str, ...], eps: float, root: Path) -> Data:
    files = _idx_files(root / folder / "raw") or _idx_files(root / name)
    if files is None:
        from torchvision import datasets

        expected = [root / folder / "raw" / f"{stem}.gz" for stem in _IDX]
        _open(name, getattr(datasets, folder), expected, root)
        files = _idx_files(root / folder / "raw") or expected
    arrays = [torch.from_numpy(read_idx(file)) for file in files]
    parts = [ArraySplit(arrays[k].unsqueeze(1), arrays[k + 1].long()) for k in (0, 2)]  # (N, 1, 28, 28), (N,)
    return _data(name, classes, eps, parts, DIGITS)


def _idx_files(folder: Path) -> list[Path] | None:
    """The four files of a folder, packed or not; None where one is absent."""
    found = [next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), None) for stem in _IDX]
    present = [path for path in found if path is not None]
    return present if len(present) == len(_IDX) else None


def _cifar(name: str, reader: str, root: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> Data:
    from torchvision import datasets

    kind = getattr(datasets, reader)
    parts: list[ArraySplit] = []
    classes: tuple[str, ...] = ()
    for train in (True, False):
        listed = [*kind.train_list, *kind.test_list, [kind.meta["filename"]]]
        files = [root / kind.base_folder / file[0] for file in listed]
        made = _open(name, kind, files, root, train=train)
        images = torch.from_numpy(np.ascontiguousarray(made.data.transpose(0, 3, 1, 2)))  # (N, 3, 32, 32)
        parts.append(ArraySplit(images, torch.tensor(made.targets)))
        classes = tuple(made.classes)
    return _data(name, classes, 8 / 255, parts, OBJECTS, mean, std)


def _open(name: str, reader: Any, files: Sequence[Path], root: Path, **part: Any) -> Any:
    """Call torchvision's reader; it downloads only where one of `files` is absent.

    Raises:
        UsageError: files with other checksums than the published ones, or a download that failed; it says which
            files belong where.
    """
    listing = ", ".join(str(file) for file in files)
    absent = [file for file in files if not file.is_file()]
    try:
        with _quiet():
            return reader(root=str(root), download=bool(absent), **part)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        if not absent:
            raise UsageError(
                f"{name}: these files are there but are not the published ones ({error}): {listing}. "
                "Place them again, or delete them to have them downloaded"
            ) from error
        raise UsageError(
            f"{name} is not in {root} and could not be downloaded ({type(error).__name__}: {error}). "
            f"Place these files: {listing}; or name another folder with --data-dir"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchvision prints to stdout, where tables go, and waits for ever for a silent server."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(patience)


def _data(
    name: str,
    classes: tuple[str, ...],
    eps: float,
    parts: Sequence[ArraySplit],
    recipe: Recipe,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Data:
    whole, test = parts
    train, val = holdout(whole, validation_size(len(whole)), where=name)
    channels, height, width = whole.images.shape[1:]
    return Data(
        name=name,
        classes=classes,
        shape=(channels, height, width),
        threat=Threat("linf", eps),
        train=train,
        val=val,
        test=test,
        fingerprint=fingerprint(whole, test),
        mean=mean,
        std=std,
        recipe=recipe,
    )
