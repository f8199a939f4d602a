from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustkit.data.npz import Npz
from robustkit.data.splits import ArraySplit
from robustkit.params import UsageError

RNG = np.random.default_rng(5)


def grey(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "set.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_four_arrays(tmp_path: Path) -> None:
    arrays = {
        "x_train": grey(50, 3, 8, 8),
        "y_train": np.arange(50) % 4,
        "x_test": grey(10, 3, 8, 8),
        "y_test": np.arange(10) % 4,
    }
    data = Npz(path=save(tmp_path, **arrays))()
    assert (len(data.train), len(data.val), len(data.test)) == (40, 10, 10)
    assert data.classes == ("0", "1", "2", "3")
    assert data.shape == (3, 8, 8)
    x, y = data.test.batch(torch.arange(10))
    assert np.array_equal((x.numpy() * 255).round().astype(np.uint8), arrays["x_test"])
    assert np.array_equal(y.numpy(), arrays["y_test"])
    assert isinstance(data.train, ArraySplit)
    assert data.train.images.dtype == torch.uint8


def test_two_arrays_are_split_at_random_so_that_sorted_files_work(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(5), 40)
    data = Npz(path=save(tmp_path, x=grey(200, 8, 8), y=labels))()
    assert (len(data.train), len(data.val), len(data.test)) == (128, 32, 40)
    assert set(data.test.labels.tolist()) == set(range(5))
    together = torch.cat([data.train.labels, data.val.labels, data.test.labels])
    assert torch.equal(together.bincount(), torch.full((5,), 40))


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (grey(30, 8, 9), (1, 8, 9)),
        (grey(30, 8, 9, 3), (3, 8, 9)),
        (grey(30, 8, 9, 1), (1, 8, 9)),
        (grey(30, 3, 8, 9), (3, 8, 9)),
        (grey(30, 8, 9).astype(np.int64), (1, 8, 9)),
        (RNG.random((30, 3, 8, 9)), (3, 8, 9)),
        (RNG.random((30, 8, 9, 3)).astype(np.float16), (3, 8, 9)),
    ],
)
def test_layouts_and_types(tmp_path: Path, array: np.ndarray, shape: tuple[int, int, int]) -> None:
    data = Npz(path=save(tmp_path, x=array, y=np.arange(30) % 2))()
    assert data.shape == shape
    x, _ = data.train.batch(torch.arange(len(data.train)))
    assert x.dtype == torch.float32
    assert x.shape[1:] == shape
    scaled = array / 255 if array.dtype.kind in "iu" else array
    assert float(x.max()) == pytest.approx(float(scaled.max()), abs=0.1)
    assert x.is_contiguous()


def test_a_pixel_ends_where_it_began(tmp_path: Path) -> None:
    array = np.zeros((10, 8, 9, 3), np.uint8)
    array[:, 2, 5, 1] = 200
    data = Npz(path=save(tmp_path, x=array, y=np.zeros(10, np.int64)))()
    x, _ = data.test.batch(torch.arange(2))
    assert torch.nonzero(x[0]).tolist() == [[1, 2, 5]]


GOOD = {"x": grey(20, 3, 8, 8), "y": np.arange(20) % 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": RNG.normal(size=(20, 3, 8, 8))}, "look normalised.*belongs into the model"),
        ({"x": grey(20, 3, 8, 8).astype(np.float32)}, "grey levels.*divide by 255"),
        ({"x": np.full((20, 3, 8, 8), np.nan)}, "not finite"),
        ({"x": grey(20, 3, 8, 8).astype(np.int64) * 3}, "from 0 to 255"),
        ({"x": grey(20, 3, 8, 8) % 2}, "at most 1"),
        ({"x": grey(20, 3, 8, 8) > 100}, "bool"),
        ({"x": grey(20, 64)}, r"\(20, 64\)"),
        ({"x": grey(20, 8, 8, 5)}, "C 1 or 3"),
        ({"x": grey(19, 3, 8, 8)}, "19 images"),
        ({"y": np.eye(20)}, "one-hot"),
        ({"y": np.arange(20) - 1}, "whole numbers from 0"),
        ({"y": np.arange(20) / 2}, "whole numbers from 0"),
        ({"y": np.array([str(k) for k in range(20)])}, "whole numbers from 0"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(
    tmp_path: Path, change: dict[str, np.ndarray], words: str
) -> None:
    path = save(tmp_path, **{**GOOD, **change})
    with pytest.raises(UsageError, match=words) as caught:
        Npz(path=path)()
    assert path in str(caught.value)


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    path = save(tmp_path, x=GOOD["x"], y=np.array([{}] * 20, dtype=object))
    with pytest.raises(UsageError, match=r"cannot be read.*allow_pickle"):
        Npz(path=path)()


def test_missing_arrays_and_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no array 'y'.*it needs x and y"):
        Npz(path=save(tmp_path, x=GOOD["x"]))()
    with pytest.raises(UsageError, match=r"no array 'x_test', only x_train, y_train"):
        Npz(path=save(tmp_path, x_train=GOOD["x"], y_train=GOOD["y"]))()
    with pytest.raises(UsageError, match="there is no such file"):
        Npz(path=str(tmp_path / "absent.npz"))()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"some text"])
def test_files_of_another_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        Npz(path=str(path))()


def test_an_npy_file_is_no_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "set.npy"
    np.save(path, GOOD["x"])
    with pytest.raises(UsageError, match="cannot be read"):
        Npz(path=str(path))()


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = Npz(path=save(tmp_path, **GOOD))()
    (tmp_path / "elsewhere").mkdir()
    assert Npz(path=save(tmp_path / "elsewhere", **GOOD))().fingerprint == first.fingerprint
    other = GOOD["x"].copy()
    other[0, 0, 0, 0] ^= 1
    assert Npz(path=save(tmp_path, x=other, y=GOOD["y"]))().fingerprint != first.fingerprint


def test_real_cifar_images(real_data: Path) -> None:
    data = Npz(path=str(real_data / "cifar10" / "test.npz"))()
    assert data.shape == (3, 32, 32)
    assert len(data.classes) == 10
    assert len(data.train) + len(data.val) + len(data.test) == 9_977
