"""Images in folders by class, streamed from disk or from behind a URL."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robustkit.contracts import Data, Split
from robustkit.data.images import HASHED_WHOLE, SUFFIXES, Pixels, decoded, in_threads, photographs, stacked
from robustkit.data.splits import holdout, validation_size
from robustkit.data.trees import LocalTree, Tree, tree_of
from robustkit.params import UsageError, check, param

_TESTED = 0.2  # share of images
_AT_ONCE = 256
"""Files that are read together for the fingerprint."""


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images in one folder a class, decoded when they are asked for; only their names are kept in memory.

    PATH/train with PATH/val, PATH/test or both. Where there is no test folder, val is the test set, as for
    ImageNet, and validation is cut from the training part. Without a train folder, PATH itself holds the
    classes, and a random fifth of the images is for testing. Classes are the folders' names, sorted.

    An image is converted to RGB, scaled with antialiasing until its short side is 8/7 of `size` (256 for 224),
    and its centre is cut out; an image that has the size already is left alone.

    Fields:
        path: of the folder, or a URL that fsspec understands: s3://bucket/set, zip://::set.zip.
        size: side of the square images.
        seed: of the random split where the folders do not say.
    """

    path: str = param(help="of the folder, or a URL")
    size: int = param(224, "side of the images", unit="pixels", low=8)
    seed: int = param(0, "of the random split")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, data_dir: Path | None = None) -> Data:
        where = f"imagefolder:{self.path}"
        tree = tree_of(self.path, where)
        parts = parts_of(tree, where)
        classes = _classes(tree, "train" if parts else "")

        def read(below: str) -> FolderSplit:
            return _read_folder(tree, below, classes, self.size)

        return folder_data(where, tree, parts, read, classes, size=self.size, tested=_TESTED, seed=self.seed)


@dataclass(frozen=True)
class FolderSplit:
    """Image files and their labels (N,) int64; nothing of an image is kept.

    Cost: decoding, on a few threads; about 5 ms for a photograph of 500 x 375 a thread; behind a URL one request each.
    """

    files: Sequence[str]
    labels: Tensor
    size: int
    tree: Tree | None = None
    """Where the files are, if not on this machine."""

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images = in_threads(self._decode, [self.files[k] for k in index.tolist()])
        return stacked(images, self.size), self.labels[index]

    def _decode(self, name: str) -> Pixels:
        if self.tree is None:
            return decoded(name, name, self.size)
        return decoded(io.BytesIO(self.tree.content(name)), self.tree.shown(name), self.size)


def folder_data(
    where: str,
    tree: Tree,
    parts: Sequence[str],
    read: Callable[[str], FolderSplit],
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
        tree: with the parts.
        parts: as `parts_of` finds them.
        read: the images of one part, "" is the folder itself.
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
        found = {part: read(part) for part in parts}
        train, test = found["train"], found.get("test") or found["val"]
        val = found["val"] if len(found) == 3 else None
    else:
        whole = read("")
        found = {"all": whole}
        train, test = holdout(whole, max(1, int(len(whole) * tested)), seed, where=where)
    if val is None:
        train, val = holdout(train, validation_size(len(train)), seed, where=where)
    settings = f"{size} {seed}" + (f" {tested:g}" if tested != _TESTED else "") + labelled
    fingerprint = _fingerprint(tree, list(found.values()), settings)
    return photographs(where, classes, size, train, val, test, fingerprint)


def parts_of(tree: Tree, where: str) -> list[str]:
    """Which of train, val and test the folder has; none of them where it holds the classes itself.

    Raises:
        UsageError: train without another, or another without train.
    """
    parts = [part for part in ("train", "val", "test") if tree.folders(part)]
    if parts and ("train" not in parts or len(parts) == 1):
        raise UsageError(
            f"{where} has {' and '.join(parts)} only; it needs train with val, test or both. "
            f"To split one folder at random, name it: {where.partition(':')[0]}:{tree.shown(parts[0])}"
        )
    return parts


def read_files(tree: Tree, below: str, labels: Mapping[str, int], size: int) -> FolderSplit:
    """All image files below the folders that have a label, in a fixed order.

    Raises:
        UsageError: a folder without images.
    """
    files: list[str] = []
    found: list[Tensor] = []
    for name, label in labels.items():
        folder = f"{below}/{name}" if below else name
        inside = [file for file in tree.files(folder) if file.lower().endswith(SUFFIXES)]
        if not inside:
            raise UsageError(f"{tree.shown(folder)} holds no image ({' '.join(SUFFIXES)})")
        files += inside
        found.append(torch.full((len(inside),), label, dtype=torch.int64))
    return FolderSplit(files, torch.cat(found), size, None if isinstance(tree, LocalTree) else tree)


def _classes(tree: Tree, below: str) -> tuple[str, ...]:
    found = tree.folders(below)
    if found is None:
        raise UsageError(f"imagefolder:{tree.shown(below)}: there is no such folder")
    if len(found) < 2:
        raise UsageError(
            f"imagefolder:{tree.shown(below)} has {len(found)} folders; it needs one a class, "
            "or folders train and val that have them"
        )
    return tuple(found)


def _read_folder(tree: Tree, below: str, classes: tuple[str, ...], size: int) -> FolderSplit:
    found = tree.folders(below) or []
    if tuple(found) != classes:
        differing = sorted(set(found) ^ set(classes))
        raise UsageError(f"{tree.shown(below)} has other classes than the training folder: {', '.join(differing[:5])}")
    return read_files(tree, below, {name: place for place, name in enumerate(classes)}, size)


def _fingerprint(tree: Tree, parts: Sequence[FolderSplit], settings: str) -> str:
    """SHA-256 over names and contents of the files; of large sets, over names, sizes and times instead.

    Behind a URL what the file system says of the contents (a checksum, a time) stands for them, where it says it.
    """
    digest = hashlib.sha256(settings.encode())
    stamps = [[tree.stamp(file) for file in part.files] for part in parts]
    whole = sum(size for part in stamps for size, _ in part) <= HASHED_WHOLE
    if not isinstance(tree, LocalTree) and all(changed for part in stamps for _, changed in part):
        whole = False
    for part, entries in zip(parts, stamps, strict=True):
        digest.update(f"{len(part)};".encode())
        for start in range(0, len(entries), _AT_ONCE):
            files = part.files[start : start + _AT_ONCE]
            contents = in_threads(tree.content, files) if whole else []
            for place, (file, (size, changed)) in enumerate(zip(files, entries[start:], strict=False)):
                digest.update(f"{tree.relative(file)} {size};".encode())
                digest.update(contents[place] if whole else changed.encode())
    return digest.hexdigest()
