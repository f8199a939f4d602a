from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from robustkit.data.mnist_10k import MNIST10k
from robustkit.data.splits import ArraySplit, in_memory


def embedded() -> dict[str, np.ndarray]:
    with (resources.files("robustkit.data") / "mnist_10k.npz").open("rb") as file:
        return dict(np.load(file, allow_pickle=False))


def subset_of(folder: Path) -> dict[str, np.ndarray]:
    """What the embedded file is made from: the first samples of the four published files.

    `np.savez_compressed("mnist_10k.npz", **subset_of(folder))` makes it again.
    """

    def body(name: str, skip: int, shape: tuple[int, ...]) -> np.ndarray:
        with gzip.open(folder / f"{name}.gz") as file:
            content = file.read()
        return np.frombuffer(content[skip : skip + int(np.prod(shape))], np.uint8).reshape(shape)

    return {
        "x_train": body("train-images-idx3-ubyte", 16, (10_000, 28, 28)),
        "y_train": body("train-labels-idx1-ubyte", 8, (10_000,)),
        "x_test": body("t10k-images-idx3-ubyte", 16, (2_000, 28, 28)),
        "y_test": body("t10k-labels-idx1-ubyte", 8, (2_000,)),
    }


def test_the_embedded_file_is_the_head_of_the_published_ones(real_data: Path) -> None:
    arrays, expected = embedded(), subset_of(real_data / "mnist")
    assert arrays.keys() == expected.keys()
    for name, values in expected.items():
        assert arrays[name].dtype == np.uint8
        assert arrays[name].shape == values.shape
        assert arrays[name].tobytes() == values.tobytes()


def test_the_embedded_file_is_small() -> None:
    assert (resources.files("robustkit.data") / "mnist_10k.npz").stat().st_size < 2.5e6  # type: ignore[attr-defined]


def test_sizes_kinds_and_declared_facts() -> None:
    data = MNIST10k()()
    assert (len(data.train), len(data.val), len(data.test)) == (9_500, 500, 2_000)
    assert all(isinstance(part, ArraySplit) and part.images.dtype == torch.uint8 for part in (data.train, data.test))
    assert (data.shape, len(data.classes)) == ((1, 28, 28), 10)
    assert str(data.threat) == "linf eps=0.3"
    x, y = data.test.batch(torch.arange(5))
    assert y.tolist() == [7, 2, 1, 0, 4]  # the first test digits of MNIST
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)
    assert data.fingerprint == MNIST10k()().fingerprint


def test_validation_comes_from_the_training_part_and_never_from_the_test_part() -> None:
    data = MNIST10k()()
    arrays = embedded()
    rows = {"train": data.train, "val": data.val, "test": data.test}
    images = {}
    for name, split in rows.items():
        whole = in_memory(split)
        assert whole is not None
        images[name] = [image.numpy().tobytes() for image in whole.images]
    original = [image.tobytes() for image in arrays["x_train"]]
    assert sorted(images["train"] + images["val"]) == sorted(original)
    assert images["test"] == [image.tobytes() for image in arrays["x_test"]]
    assert not set(images["val"]) & set(images["test"])
