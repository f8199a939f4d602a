"""Images in folders by class, streamed from disk."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.contracts import Data, Split, Threat
from robustkit.data.recipes import LARGE, OBJECTS
from robustkit.data.splits import Subset, holdout, to_unit, validation_size
from robustkit.params import UsageError, check, param

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}
_DECODERS = 8
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images in PATH/train/CLASS/ and PATH/val/CLASS/ (or test/), or in PATH/CLASS/ of which a fifth tests.

    Only the names of files are kept in memory; images are decoded when a batch asks for them, resized so that
    the shorter side is `size`, cropped to the centre, and read as RGB.

    Fields:
        path: of the folder.
        size: height and width in pixels.

    Errors: UsageError where the folder is missing, has no class folders or no images.
    """

    path: str = param(help="of the folder")
    size: int = param(224, "height and width", unit="pixels", low=8)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, data_dir: Path | None = None) -> Data:
        root = Path(self.path)
        if not root.is_dir():
            raise UsageError(f"imagefolder:{root}: there is no such folder")
        test_root = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
        train: Split
        test: Split
        if (root / "train").is_dir() and test_root is not None:
            classes = _classes(root / "train")
            train, test = self._split(root / "train", classes), self._split(test_root, classes)
        else:
            classes = _classes(root)
            whole = self._split(root, classes)
            train, test = holdout(whole, max(1, len(whole) // 5), seed=1)
        digest = hashlib.sha256(repr((self.size, _listing(train), _listing(test))).encode()).hexdigest()[:16]
        rest, val = holdout(train, validation_size(len(train)))
        return Data(
            name=f"imagefolder:{self.path}",
            classes=classes,
            shape=(3, self.size, self.size),
            threat=Threat("linf", 4 / 255 if self.size > 64 else 8 / 255),
            train=rest,
            val=val,
            test=test,
            fingerprint=digest,
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            recipe=LARGE if self.size > 64 else OBJECTS,
        )

    def _split(self, root: Path, classes: tuple[str, ...]) -> FileSplit:
        files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            for file in sorted((root / name).rglob("*")):
                if file.suffix.lower() in _SUFFIXES:
                    files.append(file)
                    labels.append(label)
        if not files:
            raise UsageError(f"imagefolder: {root} holds no image ({', '.join(sorted(_SUFFIXES))})")
        return FileSplit(tuple(files), torch.tensor(labels), self.size)


@dataclass(frozen=True)
class FileSplit:
    """Image files and their labels; decodes what is asked for, in a few threads."""

    files: tuple[Path, ...]
    labels: Tensor
    size: int
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_DECODERS), repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images = self._pool.map(self._decode, [self.files[i] for i in index.tolist()])
        stacked = list(images)
        x = torch.stack(stacked) if stacked else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return to_unit(x), self.labels[index]

    def _decode(self, file: Path) -> Tensor:
        try:
            with Image.open(file) as image:
                picture = image.convert("RGB")
        except OSError as error:
            raise UsageError(f"{file} cannot be read as an image: {error}") from error
        width, height = picture.size
        scale = self.size / min(width, height)
        picture = picture.resize((max(self.size, round(width * scale)), max(self.size, round(height * scale))))
        left, top = (picture.width - self.size) // 2, (picture.height - self.size) // 2
        picture = picture.crop((left, top, left + self.size, top + self.size))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3, H, W) uint8


def _classes(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(folder.name for folder in root.iterdir() if folder.is_dir()))
    if len(names) < 2:
        raise UsageError(
            f"imagefolder: {root} needs a folder for each of at least two classes; it has {list(names)}"
        )
    return names


def _listing(split: Split) -> list[tuple[str, str, int]]:
    """Class, file name and size of each image: what stands for the content without reading it."""
    files: list[Path] = []
    if isinstance(split, FileSplit):
        files = list(split.files)
    elif isinstance(split, Subset) and isinstance(split.of, FileSplit):
        files = [split.of.files[i] for i in split.index.tolist()]
    return [(file.parent.name, file.name, file.stat().st_size) for file in files]
