"""Images in folders by class, streamed from disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.contracts import Data, Split, Threat
from robustkit.data.recipes import LARGE, OBJECTS
from robustkit.data.splits import holdout, validation_size
from robustkit.params import UsageError, check, param

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_THREADS = min(8, os.cpu_count() or 1)
_TESTED = 0.2  # share of images
_HASHED_WHOLE = 256 * 2**20  # bytes; larger sets are told apart by names, sizes and times


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images in one folder a class, decoded when they are asked for; only their names are kept in memory.

    PATH/train with PATH/val, PATH/test or both. Where there is no test folder, val is the test set, as for
    ImageNet, and validation is cut from the training part. Without a train folder, PATH itself holds the
    classes, and a random fifth of the images is for testing. Classes are the folders' names, sorted.

    An image is converted to RGB, scaled with antialiasing until its short side is 8/7 of `size` (256 for 224),
    and its centre is cut out; an image that has the size already is left alone.

    Fields:
        path: of the folder.
        size: side of the square images.
        seed: of the random split where the folders do not say.
    """

    path: str = param(help="of the folder")
    size: int = param(224, "side of the images", unit="pixels", low=8)
    seed: int = param(0, "of the random split")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, data_dir: Path | None = None) -> Data:
        root = Path(self.path).expanduser()
        where = f"imagefolder:{self.path}"
        parts = parts_of(root, where)
        classes = _classes(root / "train" if parts else root)

        def read(folder: Path) -> FolderSplit:
            return _read_folder(folder, classes, self.size)

        return folder_data(where, root, parts, read, classes, size=self.size, tested=_TESTED, seed=self.seed)


@dataclass(frozen=True)
class FolderSplit:
    """Image files and their labels (N,) int64; nothing of an image is kept.

    Cost: decoding, on a few threads; about 5 ms for a photograph of 500 x 375 a thread.
    """

    files: Sequence[str]
    labels: Tensor
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        names = [self.files[k] for k in index.tolist()]
        if not names:
            return torch.empty(0, 3, self.size, self.size), self.labels[index]
        with ThreadPoolExecutor(min(_THREADS, len(names))) as pool:
            images = np.stack(list(pool.map(self._decode, names)))  # uint8 (n, H, W, 3)
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)  # (n, 3, H, W)
        return x.contiguous(), self.labels[index]

    def _decode(self, name: str) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        try:
            with Image.open(name) as file:
                image = file.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UsageError(f"{name} cannot be decoded ({error}); repair or remove it") from error
        if image.size != (self.size, self.size):
            image = _centre(image, self.size)
        return np.asarray(image)


def _centre(image: Image.Image, size: int) -> Image.Image:
    """Short side to 8/7 of `size`, then the middle `size` x `size`; rounding as in torchvision's transforms."""
    short = round(size * 8 / 7)
    side = min(image.size)
    scaled = (int(short * image.width / side), int(short * image.height / side))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def folder_data(
    where: str,
    root: Path,
    parts: Sequence[str],
    read: Callable[[Path], FolderSplit],
    classes: tuple[str, ...],
    *,
    size: int,
    tested: float,
    seed: int,
    labelled: str = "",
) -> Data:
    """Data of a folder with parts of its own, or of one that is split at random.

    Args:
        where: the data's name.
        root: of the parts.
        parts: as `parts_of` finds them.
        read: the images of one folder.
        classes: their names.
        size: side of the images.
        tested: share of the images for testing, where there are no parts.
        seed: of random splits.
        labelled: how, where the folders' names alone don't say; goes into the fingerprint.
    """
    train: Split
    test: Split
    val: Split | None = None
    if parts:
        found = {part: read(root / part) for part in parts}
        train, test = found["train"], found.get("test") or found["val"]
        val = found["val"] if len(found) == 3 else None
    else:
        whole = read(root)
        found = {"all": whole}
        train, test = holdout(whole, max(1, int(len(whole) * tested)), seed, where=where)
    if val is None:
        train, val = holdout(train, validation_size(len(train)), seed, where=where)
    large = size >= 64
    settings = f"{size} {seed}" + (f" {tested:g}" if tested != _TESTED else "") + labelled
    return Data(
        name=where,
        classes=classes,
        shape=(3, size, size),
        threat=Threat("linf", 4 / 255 if large else 8 / 255),
        train=train,
        val=val,
        test=test,
        fingerprint=_fingerprint(root, list(found.values()), settings),
        mean=(0.485, 0.456, 0.406),  # of ImageNet
        std=(0.229, 0.224, 0.225),
        recipe=LARGE if large else OBJECTS,
    )


def parts_of(root: Path, where: str) -> list[str]:
    """Which of train, val and test the folder has; none of them where it holds the classes itself.

    Raises:
        UsageError: train without another, or another without train.
    """
    parts = [part for part in ("train", "val", "test") if subfolders(root / part)]
    if parts and ("train" not in parts or len(parts) == 1):
        raise UsageError(
            f"{where} has {' and '.join(parts)} only; it needs train with val, test or both. "
            f"To split one folder at random, name it: {where.partition(':')[0]}:{root / parts[0]}"
        )
    return parts


def read_files(folder: Path, labels: Mapping[str, int], size: int) -> FolderSplit:
    """All image files below the subfolders that have a label, in a fixed order.

    Raises:
        UsageError: a subfolder without images.
    """
    files: list[str] = []
    found: list[Tensor] = []
    for name, label in labels.items():
        inside = [
            os.path.join(base, file)  # noqa: PTH118 - a million Paths are slow
            for base, _, names in os.walk(folder / name, followlinks=True)
            for file in names
            if file.lower().endswith(_SUFFIXES)
        ]
        if not inside:
            raise UsageError(f"{folder / name} holds no image ({' '.join(_SUFFIXES)})")
        files += sorted(inside)
        found.append(torch.full((len(inside),), label, dtype=torch.int64))
    return FolderSplit(files, torch.cat(found), size)


def subfolders(folder: Path) -> list[str]:
    """Names, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UsageError(f"imagefolder:{folder}: there is no such folder")
    found = subfolders(folder)
    if len(found) < 2:
        raise UsageError(
            f"imagefolder:{folder} has {len(found)} folders; it needs one a class, "
            "or folders train and val that have them"
        )
    return tuple(found)


def _read_folder(folder: Path, classes: tuple[str, ...], size: int) -> FolderSplit:
    if tuple(subfolders(folder)) != classes:
        differing = sorted(set(subfolders(folder)) ^ set(classes))
        raise UsageError(f"{folder} has other classes than the training folder: {', '.join(differing[:5])}")
    return read_files(folder, {name: place for place, name in enumerate(classes)}, size)


def _fingerprint(root: Path, parts: Sequence[FolderSplit], settings: str) -> str:
    """SHA-256 over names and contents of the files; of large sets, over names, sizes and times instead."""
    digest = hashlib.sha256(settings.encode())
    stats = [[os.stat(file) for file in part.files] for part in parts]  # noqa: PTH116
    whole = sum(entry.st_size for part in stats for entry in part) <= _HASHED_WHOLE
    for part, entries in zip(parts, stats, strict=True):
        digest.update(f"{len(part)};".encode())
        for file, entry in zip(part.files, entries, strict=True):
            digest.update(f"{os.path.relpath(file, root)} {entry.st_size};".encode())
            digest.update(Path(file).read_bytes() if whole else str(entry.st_mtime_ns).encode())
    return digest.hexdigest()
