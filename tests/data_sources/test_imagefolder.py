from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from robustkit.data.imagefolder import FolderSplit, ImageFolder
from robustkit.params import UsageError

RNG = np.random.default_rng(3)


def write(path: Path, size: tuple[int, int] = (20, 16), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    Image.fromarray(RNG.integers(0, 256, (size[1], size[0], *channels), np.uint8)).save(path)


@pytest.fixture
def one_root(tmp_path: Path) -> Path:
    for name in ("bee", "ant", "cow"):
        for k in range(10):
            write(tmp_path / name / f"{k}.png")
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are opened."""
    names: list[str] = []
    open_image = Image.open

    def counting(name: str) -> Image.Image:
        names.append(name)
        return open_image(name)

    monkeypatch.setattr(Image, "open", counting)
    return names


def test_nothing_is_decoded_until_it_is_asked_for(one_root: Path, opened: list[str]) -> None:
    data = ImageFolder(path=str(one_root), size=16)()
    assert (len(data.train), len(data.val), len(data.test)) == (20, 4, 6)
    assert data.train.labels.bincount(minlength=3).sum() == 20
    assert opened == []
    data.train.batch(torch.tensor([3, 0, 3]))
    assert len(opened) == 3
    assert len(set(opened)) == 2
    data.test.batch(torch.arange(0))
    assert len(opened) == 3


def test_classes_are_the_sorted_folders_and_the_split_is_random_and_fixed(one_root: Path) -> None:
    data, again = (ImageFolder(path=str(one_root), size=16)() for _ in range(2))
    assert data.classes == ("ant", "bee", "cow")
    assert torch.equal(data.test.labels, again.test.labels)
    together = torch.cat([data.train.labels, data.val.labels, data.test.labels])
    assert together.bincount().tolist() == [10, 10, 10]
    other = ImageFolder(path=str(one_root), size=16, seed=1)()
    assert not torch.equal(other.test.batch(torch.arange(6))[0], data.test.batch(torch.arange(6))[0])
    assert other.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [
        (("train", "val"), (16, 4, 9)),  # as ImageNet: val tests, validation is cut from train
        (("train", "test"), (16, 4, 9)),
        (("train", "val", "test"), (20, 9, 9)),
    ],
)
def test_folders_that_name_the_parts(tmp_path: Path, folders: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    for part in folders:
        for k in range(20 if part == "train" else 9):
            write(tmp_path / part / "ab"[k % 2] / f"{part}{k}.png", (8, 8))
    data = ImageFolder(path=str(tmp_path), size=8)()
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    tests = data.test
    assert isinstance(tests, FolderSplit)
    assert all(f"/{folders[-1]}/" in name for name in tests.files)


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (64, 64), (57, 301), (33, 64)])
def test_scaling_and_cropping_are_torchvisions(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    write(path, size)
    x, _ = FolderSplit([str(path)], torch.zeros(1, dtype=torch.int64), 28).batch(torch.tensor([0]))
    with Image.open(path) as file:
        expected = functional.to_tensor(functional.center_crop(functional.resize(file, [32]), [28]))
    assert torch.equal(x[0], expected)


def test_an_image_of_the_right_size_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write(path, (32, 32))
    x, _ = FolderSplit([str(path)], torch.zeros(1, dtype=torch.int64), 32).batch(torch.tensor([0]))
    with Image.open(path) as file:
        assert torch.equal(x[0], functional.to_tensor(file))


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode, name in (("L", "a/1.png"), ("RGBA", "a/2.png"), ("L", "b/1.jpg"), ("RGB", "b/2.JPEG")):
        write(tmp_path / name, (16, 16), mode)
    data = ImageFolder(path=str(tmp_path), size=16)
    split = FolderSplit(sorted(map(str, tmp_path.glob("*/*"))), torch.tensor([0, 0, 1, 1]), 16)
    x, y = split.batch(torch.tensor([3, 0, 1, 2]))
    assert x.shape == (4, 3, 16, 16)
    assert (x.dtype, float(x.min()) >= 0, float(x.max()) <= 1) == (torch.float32, True, True)
    assert y.tolist() == [1, 0, 0, 1]
    assert torch.equal(x[1, 0], x[1, 1])
    assert len(data().train) == 2


def test_usual_threats(one_root: Path) -> None:
    assert ImageFolder(path=str(one_root))().threat.eps == 4 / 255
    assert ImageFolder(path=str(one_root), size=32)().threat.eps == 8 / 255


def test_a_broken_image_is_named(one_root: Path) -> None:
    broken = one_root / "cow" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    split = FolderSplit([str(broken)], torch.zeros(1, dtype=torch.int64), 16)
    with pytest.raises(UsageError, match=r"cow/3.png cannot be decoded"):
        split.batch(torch.tensor([0]))


def test_the_fingerprint_is_of_names_and_contents(one_root: Path) -> None:
    def fingerprint() -> str:
        return ImageFolder(path=str(one_root), size=16)().fingerprint

    first = fingerprint()
    assert fingerprint() == first
    write(one_root / "bee" / "7.png")
    second = fingerprint()
    assert second != first
    (one_root / "bee" / "7.png").rename(one_root / "ant" / "70.png")
    assert fingerprint() not in (first, second)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent: there is no such folder"):
        ImageFolder(path=str(tmp_path / "absent"))()
    with pytest.raises(UsageError, match="has 0 folders"):
        ImageFolder(path=str(tmp_path))()
    write(tmp_path / "train" / "a" / "1.png")
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(UsageError, match="train only"):
        ImageFolder(path=str(tmp_path))()
    write(tmp_path / "val" / "a" / "1.png")
    with pytest.raises(UsageError, match=r"train/b holds no image"):
        ImageFolder(path=str(tmp_path))()
    write(tmp_path / "train" / "b" / "1.png")
    with pytest.raises(UsageError, match=r"other classes.*b"):
        ImageFolder(path=str(tmp_path))()


def test_a_val_folder_alone_is_not_taken_for_a_class(tmp_path: Path) -> None:
    for part in ("val", "test"):
        write(tmp_path / part / "a" / "1.png")
    with pytest.raises(UsageError, match="it needs train"):
        ImageFolder(path=str(tmp_path))()
