"""Shards are written by tarfile as WebDataset names their members, and held against the images themselves."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data import shards as module
from robustkit.data.load import load_data
from robustkit.data.shards import Shard, expanded
from robustkit.data.webdataset import WebDataset
from robustkit.host import Host
from robustkit.params import ParamError, UsageError

RNG = np.random.default_rng(7)


def encoded(pixels: np.ndarray, kind: str = "png") -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def write_shard(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def sample(key: str, pixels: np.ndarray, label: int, how: str = "cls") -> list[tuple[str, bytes]]:
    """Members of one sample, the label before or after the image, and one that nobody reads."""
    image = (f"{key}.png", encoded(pixels))
    text = (f"{key}.txt", b"a caption")
    if how == "cls":
        return [image, (f"{key}.cls", str(label).encode()), text]
    return [(f"{key}.json", json.dumps({"label": label, "source": "x"}).encode()), text, image]


@pytest.fixture
def images() -> np.ndarray:
    """(30, 8, 8, 3) uint8; the label of image k is k % 3."""
    return RNG.integers(0, 256, (30, 8, 8, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path, images: np.ndarray) -> Path:
    for shard in range(3):
        members: list[tuple[str, bytes]] = []
        for k in range(10 * shard, 10 * shard + 10):
            members += sample(f"part{shard}/s{k:04}", images[k], k % 3, "cls" if k % 2 else "json")
        write_shard(tmp_path / f"train-{shard:03}.tar", members)
    return tmp_path


def test_every_sample_is_found_with_its_label(folder: Path, images: np.ndarray) -> None:
    data = WebDataset(path=f"{folder}/train-{{000..001}}.tar", test=f"{folder}/train-002.tar", size=8)()
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 10)
    assert data.classes == ("0", "1", "2")
    assert data.shape == (3, 8, 8)
    x, y = data.test.batch(torch.arange(10))
    assert torch.equal(x, torch.from_numpy(images[20:]).permute(0, 3, 1, 2).float() / 255)
    assert y.tolist() == [k % 3 for k in range(20, 30)]
    order = torch.tensor([7, 0, 7, 9])
    assert torch.equal(data.test.batch(order)[0], x[order])
    assert data.test.batch(torch.arange(0))[0].shape == (0, 3, 8, 8)
    both = torch.cat([data.train.batch(torch.arange(16))[0], data.val.batch(torch.arange(4))[0]])
    expected = {image.tobytes() for image in images[:20]}
    assert {(image * 255).round().byte().permute(1, 2, 0).numpy().tobytes() for image in both} == expected


def test_patterns_and_folders_name_the_same_shards(folder: Path, host: Host) -> None:
    texts = ("train-{000..002}.tar", "train-*.tar", "", "train-00{0,1,2}.tar")
    found = [load_data(f"webdataset:{folder}/{text}:size=8:seed=1", host=host) for text in texts]
    assert len({data.fingerprint for data in found}) == 1
    assert len(found[0].test) == 6
    other = load_data(f"webdataset:{folder}:size=8:seed=2", host=host)
    assert other.fingerprint != found[0].fingerprint
    assert not torch.equal(other.test.labels, found[0].test.labels) or not torch.equal(
        other.test.batch(torch.arange(6))[0], found[0].test.batch(torch.arange(6))[0]
    )


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(discover=False)


def test_shards_behind_a_url(folder: Path, host: Host) -> None:
    url = f"memory://{uuid4().hex}"
    fsspec.filesystem("memory").put(str(folder), url, recursive=True)
    text = "webdataset:{0}/train-{{000..001}}.tar:test={0}/train-002.tar:size=8"
    local, remote = (load_data(text.format(place), host=host) for place in (folder, url))
    assert remote.fingerprint == local.fingerprint
    assert torch.equal(remote.test.batch(torch.arange(10))[0], local.test.batch(torch.arange(10))[0])


def test_a_block_is_read_in_one_go_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = WebDataset(path=f"{folder}/train-{{000..001}}.tar", test=f"{folder}/train-002.tar", size=8)()
    read: list[tuple[str, int, int]] = []
    real = Shard.read

    def counting(self: Shard, start: int, end: int) -> bytes:
        read.append((Path(self.name).name, start, end))
        return real(self, start, end)

    monkeypatch.setattr(Shard, "read", counting)
    data.test.batch(torch.arange(2, 8))
    assert [name for name, _, _ in read] == ["train-002.tar"]
    assert read[0][2] - read[0][1] < (folder / "train-002.tar").stat().st_size * 0.7
    read.clear()
    data.train.batch(torch.arange(len(data.train)))
    assert sorted(name for name, _, _ in read) == ["train-000.tar", "train-001.tar"]


def test_the_index_is_made_once_and_again_where_a_shard_changes(
    folder: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = module.index_of

    def counting(file: io.BytesIO, name: str) -> module.Index:
        made.append(Path(name).name)
        return real(file, name)

    monkeypatch.setattr(module, "index_of", counting)
    source = WebDataset(path=str(folder), size=8)
    first = source().fingerprint
    assert sorted(made) == ["train-000.tar", "train-001.tar", "train-002.tar"]
    assert source().fingerprint == first
    assert len(made) == 3
    write_shard(folder / "train-001.tar", [*sample("a", images[0], 1), *sample("b", images[1], 0)])
    assert source().fingerprint != first
    assert made[3:] == ["train-001.tar"]


def test_a_label_that_changes_changes_the_fingerprint_of_large_sets_too(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustkit.data.webdataset.HASHED_WHOLE", 0)
    prints = set()
    for label in (0, 1):
        members = [*sample("a", images[0], 0), *sample("b", images[1], 0), *sample("c", images[2], 1)]
        members += [part for k in range(7) for part in sample(f"d{k}", images[3 + k], label)]
        path = write_shard(tmp_path / f"{label}.tar", members)
        prints.add(WebDataset(path=str(path), size=8)().fingerprint)
        path.rename(tmp_path / "moved.tar")
        prints.add(WebDataset(path=str(tmp_path / "moved.tar"), size=8)().fingerprint)  # the name does not matter
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{8..11}", ["s-8", "s-9", "s-10", "s-11"]),
        ("s-{08..11}", ["s-08", "s-09", "s-10", "s-11"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("{2..0}", ["2", "1", "0"]),
        ("plain{x}.tar", ["plain{x}.tar"]),
    ],
)
def test_braces_are_those_of_a_shell(pattern: str, names: list[str]) -> None:
    import subprocess

    assert expanded(pattern) == names
    shell = subprocess.run(["bash", "-c", f"echo {pattern}"], capture_output=True, text=True, check=True)
    assert shell.stdout.split() == names


def refusals(image: bytes) -> Mapping[str, tuple[list[tuple[str, bytes]], str]]:
    return {
        "pickled": ([("a.png", image), ("a.cls", b"0"), ("a.pyd", pickle.dumps(1))], r"a.pyd is a pickle.*\.cls"),
        "deeper": ([("a.png", image), ("a.cls", b"0"), ("a.meta.pkl", b"")], "a.meta.pkl is a pickle"),
        "no label": (
            [("a.png", image), ("a.cls", b"0"), ("b.png", image)],
            r"1 of 2 images have no label.*'b'.*b\.cls",
        ),
        "no number": ([("a.png", image), ("a.cls", b"cat")], r"a.cls holds b'cat'; a label is the number"),
        "negative": ([("a.png", image), ("a.cls", b"-1")], "a.cls holds -1"),
        "words": ([("a.png", image), ("a.json", b'{"label": "cat"}')], "a.json holds 'cat'"),
        "elsewhere": ([("a.png", image), ("a.json", b'{"width": 3}')], "1 of 1 images have no label"),
        "two": ([("a.png", image), ("a.jpg", image), ("a.cls", b"0")], "sample 'a' has two images"),
        "none": ([("a.txt", b"x"), ("a.cls", b"0")], "holds no image"),
    }


@pytest.mark.parametrize("case", sorted(refusals(b"")))
def test_a_shard_that_does_not_serve_is_refused(tmp_path: Path, images: np.ndarray, case: str) -> None:
    members, words = refusals(encoded(images[0]))[case]
    path = write_shard(tmp_path / "s.tar", members)
    with pytest.raises(UsageError, match=words):
        WebDataset(path=str(path), size=8)()


def test_shards_that_are_absent_cut_off_or_compressed(folder: Path, images: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"2 of the shards.*train-003.tar, .*train-004.tar"):
        WebDataset(path=f"{folder}/train-{{000..004}}.tar")()
    with pytest.raises(UsageError, match=r"1 of the shards"):
        WebDataset(path=f"{folder}/other-*.tar")()
    shard = folder / "train-001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:5000])
    with pytest.raises(UsageError, match=r"train-001.tar is no whole, plain tar file.*gunzip"):
        WebDataset(path=str(folder))()
    with tarfile.open(shard, "w:gz") as tar:
        tar.add(folder / "train-000.tar", "a.png")
    with pytest.raises(UsageError, match=r"no whole, plain tar file"):
        WebDataset(path=str(folder))()
    with pytest.raises(ParamError, match="at least 8"):
        WebDataset(path=str(folder), size=4)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path, images: np.ndarray) -> None:
    members = [part for k in range(9) for part in sample(f"k{k}", images[k], k % 2)]
    path = write_shard(tmp_path / "s.tar", [*members, ("bad/one.v2.x.txt", b""), ("bad.jpg", b"xx"), ("bad.cls", b"1")])
    data = WebDataset(path=str(path), test=str(path), size=8)()
    with pytest.raises(UsageError, match=r"bad in .*s\.tar cannot be decoded.*repair or remove it"):
        data.test.batch(torch.arange(10))


def test_a_shard_cut_off_after_it_was_indexed(folder: Path) -> None:
    data = WebDataset(path=str(folder), test=f"{folder}/train-002.tar", size=8)()
    shard = folder / "train-002.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UsageError, match="cut off since it was indexed"):
        data.test.batch(torch.arange(10))


def test_photographs_are_scaled_as_in_folders(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (60, 100, 3), np.uint8)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(5):
            (tmp_path / "set" / name / f"{k}.png").write_bytes(encoded(pixels))
    path = write_shard(tmp_path / "s.tar", [part for k in range(10) for part in sample(f"k{k}", pixels, k % 2)])
    from robustkit.data.imagefolder import ImageFolder

    shard, folder = WebDataset(path=str(path), size=28)(), ImageFolder(path=str(tmp_path / "set"), size=28)()
    assert torch.equal(shard.test.batch(torch.arange(1))[0], folder.test.batch(torch.arange(1))[0])
