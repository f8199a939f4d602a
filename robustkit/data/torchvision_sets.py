"""Well-known data sets, read by torchvision."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from platformdirs import user_data_dir

from robustkit.contracts import Data, Recipe, Shape, Threat
from robustkit.data.recipes import DIGITS, HOUSE_NUMBERS, OBJECTS
from robustkit.data.splits import ArraySplit, fingerprint, holdout, validation_size
from robustkit.params import UsageError


def folder_of(data_dir: Path | None) -> Path:
    """Where data sets lie: as given, else $ROBUSTKIT_DATA, else the user's data folder."""
    if data_dir is not None:
        return data_dir
    given = os.environ.get("ROBUSTKIT_DATA")
    return Path(given) if given else Path(user_data_dir("robustkit"))


@dataclass(frozen=True, kw_only=True)
class MNIST:
    """MNIST (LeCun, Cortes & Burges 1998), 60,000 + 10,000 images of 28 x 28."""

    def __call__(self, data_dir: Path | None = None) -> Data:
        return _idx_set("mnist", "MNIST", tuple("0123456789"), 0.3, data_dir)


@dataclass(frozen=True, kw_only=True)
class FashionMNIST:
    """Fashion-MNIST (Xiao et al. 2017, https://arxiv.org/abs/1708.07747), 60,000 + 10,000 images of 28 x 28."""

    def __call__(self, data_dir: Path | None = None) -> Data:
        classes = "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Boot"
        return _idx_set("fashion_mnist", "FashionMNIST", tuple(classes.split()), 0.1, data_dir)


@dataclass(frozen=True, kw_only=True)
class CIFAR10:
    """CIFAR-10 (Krizhevsky 2009), 50,000 + 10,000 images of 32 x 32 in colour."""

    def __call__(self, data_dir: Path | None = None) -> Data:
        mean, std = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
        return _cifar("cifar10", "CIFAR10", "cifar-10-batches-py", mean, std, data_dir)


@dataclass(frozen=True, kw_only=True)
class CIFAR100:
    """CIFAR-100 (Krizhevsky 2009), 50,000 + 10,000 images of 32 x 32 in colour, 100 classes."""

    def __call__(self, data_dir: Path | None = None) -> Data:
        mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
        return _cifar("cifar100", "CIFAR100", "cifar-100-python", mean, std, data_dir)


@dataclass(frozen=True, kw_only=True)
class SVHN:
    """Street View House Numbers (Netzer et al. 2011), 73,257 + 26,032 images of 32 x 32 in colour."""

    def __call__(self, data_dir: Path | None = None) -> Data:
        from torchvision import datasets

        root = folder_of(data_dir)
        files = [root / "train_32x32.mat", root / "test_32x32.mat"]
        parts = []
        for split in ("train", "test"):
            made = _open("svhn", datasets.SVHN, files, root, split=split)
            parts.append(ArraySplit(torch.from_numpy(made.data), torch.from_numpy(np.asarray(made.labels)).long()))
        mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
        return _data("svhn", tuple("0123456789"), 8 / 255, parts, HOUSE_NUMBERS, mean, std)


def _idx_set(
    name: str, torchvision_name: str, classes: tuple[str, ...], eps: float, data_dir: Path | None
) -> Data:
    from torchvision import datasets

    root = folder_of(data_dir)
    raw = root / torchvision_name / "raw"
    stems = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    flat = [root / name / f"{stem}.gz" for stem in stems]
    if all(path.is_file() for path in flat):  # the published archives, side by side in one folder
        images, labels, test_images, test_labels = (torch.from_numpy(_read_idx(path)) for path in flat)
        parts = [
            ArraySplit(images.unsqueeze(1), labels.long()),
            ArraySplit(test_images.unsqueeze(1), test_labels.long()),
        ]
    else:
        parts = []
        for train in (True, False):
            expected = [raw / stem for stem in stems]
            made = _open(name, getattr(datasets, torchvision_name), expected, root, train=train)
            parts.append(ArraySplit(made.data.unsqueeze(1), made.targets.long()))
    return _data(name, classes, eps, parts, DIGITS)


def _read_idx(path: Path) -> np.ndarray:
    """An idx file of unsigned bytes, gzip, in the format of LeCun's page."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    if content[:3] != b"\x00\x00\x08":
        raise UsageError(f"{path} is no idx file of unsigned bytes")
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def _cifar(
    name: str,
    torchvision_name: str,
    folder: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    data_dir: Path | None,
) -> Data:
    from torchvision import datasets

    root = folder_of(data_dir)
    parts = []
    classes: tuple[str, ...] = ()
    for train in (True, False):
        made = _open(name, getattr(datasets, torchvision_name), [root / folder], root, train=train)
        images = torch.from_numpy(made.data).permute(0, 3, 1, 2).contiguous()
        parts.append(ArraySplit(images, torch.tensor(made.targets)))
        classes = tuple(made.classes)
    return _data(name, classes, 8 / 255, parts, OBJECTS, mean, std)


def _open(name: str, loader: Any, files: list[Path], root: Path, **part: Any) -> Any:
    """torchvision's reader; downloads where the files are absent and a network exists."""
    try:
        return loader(root=str(root), download=False, **part)
    except RuntimeError:
        pass  # torchvision's word for absent or corrupted
    try:
        return loader(root=str(root), download=True, **part)
    except Exception as error:
        listing = ", ".join(str(path) for path in files)
        raise UsageError(
            f"{name} is not in {root} and could not be downloaded ({type(error).__name__}: {error}). "
            f"Place the files so that these exist: {listing}; or name another folder with --data-dir"
        ) from error


def _data(
    name: str,
    classes: tuple[str, ...],
    eps: float,
    parts: list[ArraySplit],
    recipe: Recipe,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Data:
    whole, test = parts
    train, val = holdout(whole, validation_size(len(whole)))
    channels, height, width = whole.images.shape[1:]
    shape: Shape = (int(channels), int(height), int(width))
    return Data(
        name=name,
        classes=classes,
        shape=shape,
        threat=Threat("linf", eps),
        train=train,
        val=val,
        test=test,
        fingerprint=fingerprint(parts),
        mean=mean,
        std=std,
        recipe=recipe,
    )
