"""Data behind URLs: the same samples as from a folder of this machine."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.contracts import Data
from robustkit.data.load import load_data
from robustkit.host import Host
from robustkit.params import UsageError

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(discover=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with a train and a val part, a hidden folder, a file that is no image."""
    for part, count in (("train", 8), ("val", 3)):
        for name in ("ant", "bee"):
            (tmp_path / "set" / part / name / "deep").mkdir(parents=True)
            for k in range(count):
                image = Image.fromarray(RNG.integers(0, 256, (10, 12, 3), np.uint8))
                image.save(tmp_path / "set" / part / name / ("deep/" * (k % 2)) / f"{k}.png")
    (tmp_path / "set" / "train" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "train" / ".hidden").mkdir()
    (tmp_path / "set" / "train" / ".hidden" / "x.png").write_text("")
    return tmp_path / "set"


@pytest.fixture
def memory(folder: Path) -> Iterator[str]:
    url = f"memory://{uuid4().hex}"
    fs = fsspec.filesystem("memory")
    fs.put(str(folder), url, recursive=True)
    yield url
    fs.rm(url, recursive=True)


def same(one: Data, other: Data) -> bool:
    parts = ((getattr(one, part), getattr(other, part)) for part in ("train", "val", "test"))
    return one.classes == other.classes and all(
        torch.equal(a.labels, b.labels)
        and torch.equal(a.batch(torch.arange(len(a)))[0], b.batch(torch.arange(len(b)))[0])
        for a, b in parts
    )


def test_a_folder_of_images_behind_a_url(folder: Path, memory: str, host: Host) -> None:
    local = load_data(f"imagefolder:{folder}:size=8", host=host)
    remote = load_data(f"imagefolder:{memory}:size=8", host=host)
    assert same(local, remote)
    assert remote.name == f"imagefolder:{memory}"
    as_file = load_data(f"imagefolder:file://{folder}:size=8", host=host)
    assert same(local, as_file)
    assert as_file.fingerprint == local.fingerprint


def test_a_folder_of_images_in_a_zip_file(folder: Path, tmp_path: Path, host: Host) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"top/{file.relative_to(folder)}")
    local = load_data(f"imagefolder:{folder}:size=8", host=host)
    packed = load_data(f"imagefolder:zip://top::{tmp_path / 'set.zip'}:size=8", host=host)
    assert same(local, packed)
    again = load_data(f"imagefolder:zip://top::{tmp_path / 'set.zip'}:size=8", host=host)
    assert again.fingerprint == packed.fingerprint


def test_the_fingerprint_of_a_remote_folder_is_of_its_contents(memory: str, host: Host) -> None:
    first = load_data(f"imagefolder:{memory}:size=8", host=host).fingerprint
    assert load_data(f"imagefolder:{memory}:size=8", host=host).fingerprint == first
    fs = fsspec.filesystem("memory")
    name = fs.find(f"{memory}/train/ant")[0]
    fs.pipe_file(name, fs.cat_file(name))
    assert load_data(f"imagefolder:{memory}:size=8", host=host).fingerprint != first  # written at another time


def test_an_npz_file_behind_a_url(tmp_path: Path, host: Host) -> None:
    x = RNG.integers(0, 256, (20, 8, 8), np.uint8)
    np.savez(tmp_path / "set.npz", x=x, y=np.arange(20) % 2)
    fs = fsspec.filesystem("memory")
    url = f"memory://{uuid4().hex}/set.npz"
    fs.pipe_file(url, (tmp_path / "set.npz").read_bytes())
    local, remote = (load_data(f"npz:{text}", host=host) for text in (tmp_path / "set.npz", url))
    assert same(local, remote)
    assert local.fingerprint == remote.fingerprint
    assert same(local, load_data(f"npz:file://{tmp_path / 'set.npz'}", host=host))
    fs.pipe_file(url, b"no archive")
    with pytest.raises(UsageError, match=r"cannot be read.*savez"):
        load_data(f"npz:{url}", host=host)


def test_what_is_wrong_is_told_with_the_url(memory: str, host: Host) -> None:
    for text, words in (
        (f"imagefolder:{memory}/absent", "absent: there is no such"),
        ("npz:memory://absent.npz", r"npz:memory://absent.npz: there is no such file"),
        ("npz:foo://x/y.npz", r"Protocol not known: foo.*fsspec knows.*s3"),
        ("npy:memory://set", "lie on this machine"),
    ):
        with pytest.raises(UsageError, match=words):
            load_data(text, host=host)
    broken = fsspec.filesystem("memory").find(f"{memory}/val/bee")[0]
    fsspec.filesystem("memory").pipe_file(broken, b"nothing")
    with pytest.raises(UsageError, match=rf"val/bee/.*png in {memory} cannot be decoded"):
        load_data(f"imagefolder:{memory}:size=8", host=host).test.batch(torch.arange(6))


def test_a_missing_driver_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(UsageError, match=r"s3://bucket/set needs a driver that is not installed \(Install s3fs"):
        load_data("imagefolder:s3://bucket/set", host=host)
