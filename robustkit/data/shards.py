"""Tar shards as WebDataset writes them, read by place: where each image lies, and its label.

The index of a shard is made once, of its headers and labels, and kept in the user's cache under the shard's name, size
and version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_dir

from robustkit.data.images import SUFFIXES
from robustkit.data.remote import Place, place_of, told, version
from robustkit.files import as_npz, from_npz, write_atomically
from robustkit.params import UsageError

_FORMAT = 1
"""Of the index; another number makes every index anew."""
_PICKLED = ("pyd", "pickle", "pkl", "pth", "pt")
_GROUP = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
_READERS = 8


@dataclass(frozen=True)
class Index:
    """The samples of one shard, in its order.

    Args:
        keys: (n,) bytes, names without what follows their first dot.
        offset, size: (n,) int64, bytes of the image file in the shard.
        label: (n,) int64.
        digest: hash over names, sizes, times and labels, as the shard states them.
    """

    keys: np.ndarray[Any, Any]
    offset: np.ndarray[Any, np.dtype[np.int64]]
    size: np.ndarray[Any, np.dtype[np.int64]]
    label: np.ndarray[Any, np.dtype[np.int64]]
    digest: str


@dataclass(frozen=True)
class Shard:
    """One tar file: its place, its size in bytes, and what tells its content from another one."""

    place: Place
    size: int
    version: str

    @property
    def name(self) -> str:
        return self.place.text

    def read(self, start: int, end: int) -> bytes:
        """Some of its bytes."""
        with told(self.name):
            content: bytes = self.place.fs.cat_file(self.place.path, start=start, end=end)
        if len(content) > end - start:
            raise UsageError(
                f"{self.name}: its server sends whole files only, and no range of bytes; copy it to a disk"
            )
        if len(content) < end - start:
            raise UsageError(
                f"{self.name} ends before byte {end:,}; it was cut off since it was indexed: place it again"
            )
        return content


def cache_folder() -> Path:
    """$ROBUSTKIT_CACHE, else the user's cache folder."""
    given = os.environ.get("ROBUSTKIT_CACHE")
    return Path(given if given else user_cache_dir("robustkit"))


def expanded(pattern: str) -> list[str]:
    """The names that a brace pattern stands for, as a shell would write them: "s-{000..002}.tar", "{a,b}.tar"."""
    found = _GROUP.search(pattern)
    if found is None:
        return [pattern]
    numbers = _NUMBERS.fullmatch(found[1])
    if numbers is None:
        parts = found[1].split(",")
    else:
        first, last = int(numbers[1]), int(numbers[2])
        padded = any(text.startswith("0") and len(text) > 1 for text in numbers.groups())
        width = max(map(len, numbers.groups())) if padded else 0
        step = 1 if first <= last else -1
        parts = [f"{number:0{width}}" for number in range(first, last + step, step)]
    rest = expanded(pattern[found.end() :])
    return [pattern[: found.start()] + part + end for part in parts for end in rest]


def find_shards(pattern: str, where: str) -> list[Shard]:
    """The shards of a brace pattern, of one with "*", or of a folder, in a fixed order.

    Raises:
        UsageError: there are none, or some that the pattern names are not there.
    """
    found: list[Shard] = []
    absent: list[str] = []
    for text in expanded(pattern):
        place = place_of(text, where)
        with told(f"{where}: {text}"):
            places = _matching(place)
            infos = _in_threads(lambda one: _info(one), places)
        found += [Shard(one, int(info["size"]), version(info)) for one, info in zip(places, infos, strict=True) if info]
        absent += [one.text for one, info in zip(places, infos, strict=True) if not info] or ([] if places else [text])
    if absent:
        raise UsageError(
            f"{where}: {len(absent)} of the shards that it names are not there: {', '.join(absent[:3])}"
            f"{' …' if len(absent) > 3 else ''}; name tar files, as in shard-{{000..009}}.tar"
        )
    return found


def _matching(place: Place) -> list[Place]:
    fs, path = place.fs, place.path
    if "*" not in path and (path.endswith(".tar") or not fs.isdir(path)):
        return [place]
    names = sorted(fs.glob(path if "*" in path else f"{path.rstrip('/')}/*.tar"))
    folder = place.text.rpartition("/")[0] if "*" in path else place.text.rstrip("/")
    return [Place(fs, name, f"{folder}/{name.rpartition('/')[2]}") for name in names]


def _info(place: Place) -> dict[str, Any] | None:
    try:
        info: dict[str, Any] = place.fs.info(place.path)
    except FileNotFoundError:
        return None
    return info if info.get("type") == "file" and info.get("size") is not None else None


def indices(shards: Sequence[Shard], where: str) -> list[Index]:
    """Where everything lies in the shards, from the cache or by reading them, a few at a time.

    Of several processes that want the same shards one reads, and the others wait for it.

    Raises:
        UsageError: a shard is no plain tar file, holds pickles, or a sample in it has no label or two images.
    """
    paths = [_cached(shard) for shard in shards]
    if not all(path.is_file() for path in paths):
        names = hashlib.sha256(" ".join(path.stem for path in paths).encode()).hexdigest()[:20]
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with FileLock(paths[0].parent / f"{names}.lock"):
            missing = [(shard, path) for shard, path in zip(shards, paths, strict=True) if not path.is_file()]
            _in_threads(lambda one: _write(_made(one[0], where), one[1]), missing)
    return [_read(path) for path in paths]


def _cached(shard: Shard) -> Path:
    text = f"{_FORMAT} {shard.name if '://' in shard.name else shard.place.path} {shard.size} {shard.version}"
    return cache_folder() / "shards" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def _write(index: Index, path: Path) -> None:
    arrays = {"keys": index.keys, "offset": index.offset, "size": index.size, "label": index.label}
    write_atomically(path, as_npz({**arrays, "digest": np.array(index.digest)}))


def _read(path: Path) -> Index:
    kept = from_npz(path)
    return Index(kept["keys"], kept["offset"], kept["size"], kept["label"], str(kept["digest"]))


def _made(shard: Shard, where: str) -> Index:
    with told(f"{where}: {shard.name}"), shard.place.fs.open(shard.place.path, "rb") as file:
        try:
            return index_of(file, shard.name)
        except tarfile.TarError as error:
            raise UsageError(
                f"{shard.name} is no whole, plain tar file ({error}); a compressed shard cannot be read by place: "
                "unpack it with gunzip, and place again what was cut off"
            ) from error


def index_of(file: IO[bytes], name: str) -> Index:
    """The index of a shard that is open for reading; images are skipped.

    A sample is what shares a name up to the first dot of the file: one image, and a label as text in `.cls`, or as
    `label` or `cls` in `.json`. What else there is of a sample is left alone.

    Raises:
        UsageError: a sample with no label, with two images or with a pickle; no sample at all.
        tarfile.TarError: no tar file, or one that is cut off.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    digest = hashlib.sha256()
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if not member.isfile():
                continue
            folder, slash, last = member.name.rpartition("/")
            stem, _, kind = last.partition(".")
            key, kind = folder + slash + stem, kind.lower()
            if kind.rpartition(".")[2] in _PICKLED:
                raise UsageError(
                    f"{name}: {member.name} is a pickle, which can run any code when it is read; write the label as "
                    "text in .cls, or in .json"
                )
            if f".{kind}" in SUFFIXES:
                if key in images:
                    raise UsageError(f"{name}: sample {key!r} has two images, {member.name} is one of them; leave one")
                images[key] = member.offset_data, member.size
                digest.update(f"{member.name} {member.size} {member.mtime};".encode())
            elif kind in ("cls", "json") and not (kind == "json" and key in labels):
                content = tar.extractfile(member)
                label = None if content is None else _label(content.read(), kind, f"{name}: {member.name}")
                if label is not None:
                    labels[key] = label
    without = [key for key in images if key not in labels]
    if without:
        raise UsageError(
            f"{name}: {len(without)} of {len(images)} images have no label, the first is {without[0]!r}; write the "
            f"number of its class into {without[0]}.cls, or as label into {without[0]}.json"
        )
    if not images:
        raise UsageError(f"{name} holds no image ({' '.join(SUFFIXES)})")
    numbers = np.array([labels[key] for key in images], dtype=np.int64)
    digest.update(numbers.tobytes())
    places = np.array(list(images.values()), dtype=np.int64)
    keys = np.array([key.encode() for key in images])
    return Index(keys, places[:, 0].copy(), places[:, 1].copy(), numbers, digest.hexdigest())


def _label(content: bytes, kind: str, where: str) -> int | None:
    """The number of a class; None where a JSON file names none."""
    try:
        found = json.loads(content)
    except ValueError:
        found = content[:40]
    if kind == "json":
        found = found.get("label", found.get("cls")) if isinstance(found, dict) else None
        if found is None:
            return None
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise UsageError(f"{where} holds {found!r}; a label is the number of a class, from 0")
    return found


def _in_threads(work: Any, items: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(work, items))
