"""The published on-disk formats, written small; what differs from the published files is their checksums."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torchvision import datasets

from robustkit.contracts import Data
from robustkit.data.torchvision_sets import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST, folder_of
from robustkit.params import UsageError

RNG = np.random.default_rng(11)
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A machine without network: every connection fails at once. Returns the attempts."""
    attempts: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        attempts.append(address[0])
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("ROBUSTKIT_DATA", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return attempts


def write_idx(folder: Path, *, packed: bool, counts: tuple[int, int] = (30, 10)) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    arrays = {}
    for stem in STEMS:
        count = counts[0] if stem.startswith("train") else counts[1]
        array = RNG.integers(0, 256, (count, 28, 28), np.uint8)
        if "labels" in stem:
            array = (np.arange(count) % 10).astype(np.uint8)
        arrays[stem] = array
        content = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
        path = folder / (f"{stem}.gz" if packed else stem)
        path.write_bytes(gzip.compress(content) if packed else content)
    return arrays


def first_test_image(data: Data) -> np.ndarray:
    return (data.test.batch(torch.arange(1))[0][0].numpy() * 255).round().astype(np.uint8)


@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_in_torchvisions_folder_or_side_by_side(
    tmp_path: Path, folder: str, packed: bool, no_network: list[object]
) -> None:
    arrays = write_idx(tmp_path / folder, packed=packed)
    data = MNIST()(tmp_path)
    assert data.shape == (1, 28, 28)
    assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 10)
    assert np.array_equal(first_test_image(data)[0], arrays[STEMS[2]][0])
    assert data.test.labels.tolist() == list(range(10))
    assert data.threat.eps == 0.3
    assert not no_network


def test_mnist_is_what_torchvision_reads(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", packed=False)
    ours, theirs = MNIST()(tmp_path), datasets.MNIST(tmp_path, train=False)
    assert np.array_equal(first_test_image(ours)[0], theirs.data[0].numpy())
    assert torch.equal(ours.test.labels, theirs.targets)


def test_fashion_mnist_never_takes_the_files_of_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", packed=True)
    with pytest.raises(UsageError, match="fashion_mnist is not in"):
        FashionMNIST()(tmp_path)
    write_idx(tmp_path / "fashion_mnist", packed=True)
    data = FashionMNIST()(tmp_path)
    assert data.classes[0] == "T-shirt/top"
    assert len(data.classes) == 10
    assert data.threat.eps == 0.1


def _as_python_2_pickled(content: dict[str, object]) -> bytes:
    """Protocol 2 with dtype's flags as the numbers 0 and 1, as in the published batches."""
    text, changes = re.subn(
        rb"(u1q.)\x89\x88",
        lambda found: found[1] + b"K\x00K\x01",
        pickle.dumps(content, protocol=2),
        flags=re.DOTALL,
    )
    assert changes == 1
    return text


def _write_batch(path: Path, count: int, label_key: str, classes: int) -> tuple[list[str], np.ndarray]:
    images = RNG.integers(0, 256, (count, 3072), np.uint8)
    labels = [int(k) % classes for k in range(count)]
    path.write_bytes(_as_python_2_pickled({"data": images, label_key: labels}))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()], images


def write_cifar(
    root: Path, kind: type[datasets.CIFAR10], label_key: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    train = [_write_batch(folder / name, 50, label_key, classes)[0] for name, _ in kind.train_list]
    name, images = _write_batch(folder / kind.test_list[0][0], 20, label_key, classes)
    meta = folder / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: [f"class {k}" for k in range(classes)]}, protocol=2))
    md5 = hashlib.md5(meta.read_bytes()).hexdigest()
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", [name])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5})
    return images


@pytest.mark.parametrize(
    ("source", "kind", "label_key", "classes", "count"),
    [(CIFAR10(), datasets.CIFAR10, "labels", 10, 250), (CIFAR100(), datasets.CIFAR100, "fine_labels", 100, 50)],
)
def test_cifar(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: list[object],
    source: CIFAR10 | CIFAR100,
    kind: type[datasets.CIFAR10],
    label_key: str,
    classes: int,
    count: int,
) -> None:
    images = write_cifar(tmp_path, kind, label_key, classes, monkeypatch)
    data = source(tmp_path)
    assert len(data.train) + len(data.val) == count
    assert len(data.test) == 20
    assert data.classes == tuple(f"class {k}" for k in range(classes))
    assert data.shape == (3, 32, 32)
    assert np.array_equal(first_test_image(data), images[0].reshape(3, 32, 32))  # rows of 1024 by channel
    assert data.threat.eps == 8 / 255
    assert len(data.mean) == len(data.std) == 3
    assert not no_network


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[object]) -> None:
    listed = dict(datasets.SVHN.split_list)
    written = {}
    for part, count in (("train", 40), ("test", 12)):
        images = RNG.integers(0, 256, (32, 32, 3, count), np.uint8)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8).reshape(-1, 1)  # 1 to 10, where 10 is the digit 0
        path = tmp_path / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": labels})
        listed[part] = [listed[part][0], path.name, hashlib.md5(path.read_bytes()).hexdigest()]
        written[part] = images
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    data = SVHN()(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (32, 8, 12)
    assert np.array_equal(first_test_image(data), written["test"][..., 0].transpose(2, 0, 1))
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert not no_network


@pytest.mark.parametrize(
    ("source", "file"),
    [
        (MNIST(), "MNIST/raw/train-images-idx3-ubyte.gz"),
        (FashionMNIST(), "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz"),
        (CIFAR10(), "cifar-10-batches-py/data_batch_5"),
        (CIFAR100(), "cifar-100-python/meta"),
        (SVHN(), "train_32x32.mat"),
    ],
)
def test_without_files_and_network_it_says_what_to_place_where(
    tmp_path: Path,
    source: MNIST | SVHN | CIFAR10,
    file: str,
    no_network: list[object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UsageError) as caught:
        source(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / file) in message
    assert "--data-dir" in message
    assert no_network  # a download was tried
    assert capsys.readouterr().out == ""  # a table may be piped from stdout
    assert socket.getdefaulttimeout() is None


def test_files_with_other_checksums_are_not_replaced_behind_the_users_back(
    tmp_path: Path, no_network: list[object]
) -> None:
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(UsageError, match="not the published ones"):
        SVHN()(tmp_path)
    assert (tmp_path / "train_32x32.mat").read_bytes() == b"mine"
    assert not no_network


def test_where_data_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_of(tmp_path) == tmp_path
    assert folder_of(None).name == "robustkit"
    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path / "shared"))
    assert folder_of(None) == tmp_path / "shared"
    assert folder_of(tmp_path) == tmp_path


def test_the_whole_of_mnist(real_data: Path) -> None:
    data = MNIST()(real_data)
    assert (len(data.train), len(data.val), len(data.test)) == (57_000, 3_000, 10_000)
    published = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.cat([data.train.labels, data.val.labels]).bincount().tolist() == published
    assert data.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
