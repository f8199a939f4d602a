"""Images in folders by class, streamed from disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
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
        folders = [part for part in ("train", "val", "test") if _subfolders(root / part)]
        train: Split
        test: Split
        val: Split | None = None
        if folders:
            if "train" not in folders or len(folders) == 1:
                raise UsageError(
                    f"{where} has {' and '.join(folders)} only; it needs train with val, test or both. "
                    f"To split one folder at random, name it: imagefolder:{root / folders[0]}"
                )
            classes = _classes(root / "train")
            parts = {part: _read_folder(root / part, classes, self.size) for part in folders}
            train, test = parts["train"], parts.get("test") or parts["val"]
            val = parts["val"] if len(parts) == 3 else None
        else:
            classes = _classes(root)
            whole = _read_folder(root, classes, self.size)
            parts = {"all": whole}
            train, test = holdout(whole, max(1, len(whole) // 5), self.seed, where=where)
        if val is None:
            train, val = holdout(train, validation_size(len(train)), self.seed, where=where)
        large = self.size >= 64
        return Data(
            name=where,
            classes=classes,
            shape=(3, self.size, self.size),
            threat=Threat("linf", 4 / 255 if large else 8 / 255),
            train=train,
            val=val,
            test=test,
            fingerprint=_fingerprint(root, list(parts.values()), f"{self.size} {self.seed}"),
            mean=(0.485, 0.456, 0.406),  # of ImageNet
            std=(0.229, 0.224, 0.225),
            recipe=LARGE if large else OBJECTS,
        )


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


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UsageError(f"imagefolder:{folder}: there is no such folder")
    found = _subfolders(folder)
    if len(found) < 2:
        raise UsageError(
            f"imagefolder:{folder} has {len(found)} folders; it needs one a class, "
            "or folders train and val that have them"
        )
    return tuple(found)


def _read_folder(folder: Path, classes: tuple[str, ...], size: int) -> FolderSplit:
    """All image files below the folders of the classes, in a fixed order."""
    if tuple(_subfolders(folder)) != classes:
        differing = sorted(set(_subfolders(folder)) ^ set(classes))
        raise UsageError(f"{folder} has other classes than the training folder: {', '.join(differing[:5])}")
    files: list[str] = []
    counts = []
    for name in classes:
        inside = [
            os.path.join(base, file)  # noqa: PTH118 - a million Paths are slow
            for base, _, names in os.walk(folder / name, followlinks=True)
            for file in names
            if file.lower().endswith(_SUFFIXES)
        ]
        if not inside:
            raise UsageError(f"{folder / name} holds no image ({' '.join(_SUFFIXES)})")
        files += sorted(inside)
        counts.append(len(inside))
    return FolderSplit(files, torch.repeat_interleave(torch.tensor(counts)), size)


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
