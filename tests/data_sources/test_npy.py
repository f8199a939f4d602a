"""Memory-mapped sets: what is on disk is what is trained on, and it stays on disk."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustkit.contracts import Recipe, Threat, Training
from robustkit.data.load import load_data
from robustkit.data.npy import MappedSplit, Npy
from robustkit.data.splits import Subset, in_memory
from robustkit.defenses.standard import Standard
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.params import UsageError
from robustkit.training.batches import Batches

MANY = 100_000


def save(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def small(folder: Path, **changes: np.ndarray) -> Path:
    generator = np.random.default_rng(0)
    arrays = {
        "x_train": generator.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8),
        "y_train": np.arange(60) % 4,
        "x_test": generator.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8),
        "y_test": np.arange(20) % 4,
    }
    return save(folder, **(arrays | changes))


@pytest.mark.parametrize("last", [False, True])
def test_images_come_as_they_were_stored_in_any_order(last: bool, tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 256, (30, 3, 9, 5), dtype=np.uint8)
    folder = save(tmp_path, x=stored.transpose(0, 2, 3, 1) if last else stored)
    split = MappedSplit(np.load(folder / "x.npy", mmap_mode="r"), torch.arange(30))
    assert split.shape == (3, 9, 5)
    index = torch.tensor([7, 0, 29, 7, 3])
    x, y = split.batch(index)
    assert torch.equal(x, torch.from_numpy(stored)[index].float() / 255)
    assert y.tolist() == index.tolist()
    assert x.is_contiguous()
    assert len(split.batch(torch.empty(0, dtype=torch.int64))[0]) == 0


def test_the_parts_of_a_folder(tmp_path: Path) -> None:
    folder = small(tmp_path / "set")
    data = load_data(f"npy:{folder}", host=default_host())
    assert (len(data.train), len(data.val), len(data.test)) == (48, 12, 20)
    assert (data.shape, len(data.classes)) == ((3, 8, 8), 4)
    assert in_memory(data.train) is None
    other = small(tmp_path / "other", y_train=(np.arange(60) + 1) % 4)
    assert Npy(path=str(other))().fingerprint != data.fingerprint == Npy(path=str(folder))().fingerprint


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("x_train", np.zeros((60, 3, 8, 8), np.float32), r"float32; store grey levels from 0 to 255 as uint8"),
        ("x_train", np.zeros((60, 8, 8), np.uint8), r"\(60, 8, 8\); images are"),
        ("x_test", np.zeros((20, 3, 8, 7), np.uint8), r"\(3, 8, 8\) for training and of \(3, 8, 7\)"),
        ("y_train", np.zeros(59, np.int64), "60 images and 59 labels in the train part"),
        ("y_test", np.full(20, 0.5), "labels are whole numbers"),
    ],
)
def test_what_does_not_fit_is_told(name: str, array: np.ndarray, words: str, tmp_path: Path) -> None:
    folder = small(tmp_path / "set", **{name: array})
    with pytest.raises(UsageError, match=words):
        Npy(path=str(folder))()


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    folder = small(tmp_path / "set")
    (folder / "x_test.npy").write_bytes(b"no array")
    with pytest.raises(UsageError, match=r"x_test\.npy cannot be read"):
        Npy(path=str(folder))()
    (folder / "y_test.npy").unlink()
    with pytest.raises(UsageError, match=r"lacks y_test\.npy"):
        Npy(path=str(folder))()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100,000 images of 3 x 32 x 32 whose first three values spell their number."""
    folder = tmp_path_factory.mktemp("many")
    images = np.lib.format.open_memmap(folder / "x_train.npy", mode="w+", dtype=np.uint8, shape=(MANY, 3, 32, 32))
    number = np.arange(MANY)
    for place in range(3):
        images[:, 0, 0, place] = (number >> (8 * place)) & 255
    images.flush()
    return save(folder, y_train=number % 10, x_test=np.array(images[:100]), y_test=number[:100] % 10)


def own_memory() -> int:
    """Bytes that belong to this process alone; pages of mapped files don't."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_images_stream_without_being_loaded(many: Path) -> None:
    data = Npy(path=str(many))()
    recipe = Recipe(batch_size=500)
    list(
        Batches(Subset(data.train, torch.arange(2000)), recipe, torch.device("cpu"), 0).epoch(0)
    )  # what is loaded once
    before, most, seen = own_memory(), 0, torch.zeros(MANY, dtype=torch.int64)
    batches = Batches(data.train, recipe, torch.device("cpu"), 0)
    for number, (x, y) in enumerate(batches.epoch(0)):
        spelt = (x[:, 0, 0, :3] * 255).round().long()
        which = spelt[:, 0] + 256 * spelt[:, 1] + 65536 * spelt[:, 2]
        assert torch.equal(which % 10, y)
        seen[which] += 1
        if number % 20 == 0:
            most = max(most, own_memory())
    assert len(data.train) == 95_000 == int(seen.sum())
    assert int(seen.max()) == 1
    assert most - before < 150e6  # the set is 307 MB


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_residual_networks_train_on_a_mapped_set(name: str, many: Path) -> None:
    data = Npy(path=str(many))()
    few = Subset(data.train, torch.arange(0, 90_000, 20_000))  # 5 images from all over the file
    data = dataclasses.replace(data, train=few, val=Subset(data.val, torch.arange(2)))
    model = build_model(name, data, host=default_host())
    before = {key: value.clone() for key, value in model.named_parameters()}
    recipe = Recipe(epochs=1, batch_size=4, lr=0.05, schedule="constant", augment="crop_flip")
    training = Training(threat=Threat("linf", 8 / 255), recipe=recipe, precision="fp32")
    trained = Standard()(model, data, training)
    assert all(bool(torch.isfinite(value).all()) for value in trained.state_dict().values())
    assert all(not torch.equal(value, before[key]) for key, value in trained.named_parameters())
