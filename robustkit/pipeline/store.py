"""Run directories and the cache of trained models. Nothing is ever half-written.

Files are written beside their place and renamed; `records.jsonl` and `detections.jsonl` alone grow at their ends, a
line a record, and a line torn by a kill is cut off when the directory is next opened.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from robustkit.data.remote import local_path, refuse_url
from robustkit.data.shards import cache_folder
from robustkit.files import write_atomically
from robustkit.params import UsageError
from robustkit.pipeline.mirror import Mirror
from robustkit.pipeline.parquet import encoded, read_parquet

Record = dict[str, Any]
Columns = dict[str, np.ndarray]
DETECTIONS = "detections.jsonl"
"""What was found of backdoors and by detectors, one line a record; see `robustkit.pipeline.inspections`."""


def append(path: Path, content: bytes) -> None:
    """Write at the end of a file, in one go and flushed to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunStore:
    """One run directory.

    Layout: spec.toml, environment.json, records.jsonl, samples/KEY.parquet (one row a test sample),
    models/, tables/; and while a cell is at work blocks/KEY/NNNNN.parquet.

    Args:
        directory: a path, or the text of a path or URL. Behind a URL `directory` is a copy on this machine, and
            `mirror` takes every file there.
    """

    def __init__(self, directory: Path | str) -> None:
        if isinstance(directory, Path):
            refuse_url(directory)
        local = directory if isinstance(directory, Path) else local_path(directory)
        self.mirror = None if local is not None else Mirror(str(directory))
        self.directory: Path = local if self.mirror is None else self.mirror.folder  # type: ignore[assignment]
        self._records = self.directory / "records.jsonl"
        self._lock = FileLock(self.directory / ".lock")

    def open(self) -> None:
        """Make the directory and take it for this process.

        Raises:
            UsageError: another process is at work here, or the URL cannot be written.
        """
        if self.mirror is not None:
            self.mirror.take()
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"another process is at work in {self.directory}; wait for it, or use -o") from None
        self._repair()
        self._sweep()

    def close(self) -> None:
        """Let others in; what is not behind the URL yet is written there first."""
        self._lock.release()
        if self.mirror is not None:
            self.mirror.release()

    def records(self) -> dict[str, Record]:
        """The last record of each cell, by key, in the order in which cells were first finished."""
        if not self._records.is_file():
            return {}
        found: dict[str, Record] = {}
        for line in self._records.read_bytes().split(b"\n"):
            record = parsed(line)
            if record is not None:
                found[record["key"]] = record
        return found

    def in_order(self, records: Iterable[Record]) -> list[Record]:
        """Of `records` those that belong to the last plan that ran here, in its order.

        A record of an attack without a budget, or of a certifier, gets the eps at which that plan scores it.
        """
        plan = self.read_json("cells.json")
        place = {key: number for number, key in enumerate(plan.get("cells", []))}
        mine = sorted((r for r in records if r["key"] in place), key=lambda record: place[record["key"]])
        return [
            record | {"threat": record["threat"] | {"radii": plan["eps"]}}
            if record["component"] is not None and record["component"]["goal"] != "budget"
            else record
            for record in mine
        ]

    def samples(self, key: str) -> Columns:
        """The per-sample columns of a finished cell."""
        return read_parquet(self.directory / "samples" / f"{key}.parquet")[0]

    def has_samples(self, key: str) -> bool:
        return (self.directory / "samples" / f"{key}.parquet").is_file()

    def block(self, key: str, number: int) -> tuple[Columns, dict[str, Any]] | None:
        """A block that was finished before, with what was noted beside it; None where there is none."""
        path = self._block_path(key, number)
        if self.mirror is not None and not path.is_file():
            self.mirror.fetch_block(key, number, path)
        return read_parquet(path) if path.is_file() else None

    def blocks(self, key: str) -> set[int]:
        """The numbers of the blocks of a cell that were finished before."""
        if self.mirror is not None:
            return self.mirror.blocks(key)
        folder = self.directory / "blocks" / key
        if not folder.is_dir():
            return set()
        return {int(name[:-8]) for name in os.listdir(folder) if name.endswith(".parquet")}  # noqa: PTH208 - 10^6

    def write_block(self, key: str, number: int, content: bytes) -> None:
        """Keep a block; `content` is what `encoded` made of it, here or in a worker."""
        self.keep(self._block_path(key, number), content)

    def keep(self, path: Path, content: bytes) -> None:
        """Write a file of this run; behind a URL, when it returns, it is there as well."""
        write_atomically(path, content)
        if self.mirror is not None:
            self.mirror.put(path)

    def forget(self, key: str) -> None:
        """Drop what was measured of a cell, so that it is measured anew."""
        self._drop_blocks(key)
        (self.directory / "samples" / f"{key}.parquet").unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.drop(f"samples/{key}.parquet")

    def finish(self, record: Record, columns: Columns | None) -> None:
        """Make a cell final: its samples, then its record, then its blocks are no longer needed.

        The blocks of a cell that more may be measured of stay: a budget's, and those of a sample of the test set.
        """
        key = record["key"]
        if columns is not None:
            self.keep(self.directory / "samples" / f"{key}.parquet", encoded(columns, {}))
        if self.mirror is not None:
            self.mirror.push()  # weights go before the record that speaks of them
        self.append(self._records.name, (json.dumps(record, sort_keys=True, allow_nan=False) + "\n").encode())
        if columns is not None and not _goes_on(record):
            self._drop_blocks(key)

    def append(self, name: str, lines: bytes) -> None:
        """Write at the end of a file that grows; behind a URL, when it returns, that is there as well."""
        append(self.directory / name, lines)
        if self.mirror is not None:
            self.mirror.put(self.directory / name)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        self.keep(path, text.encode())
        return path

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of this run; empty where there is none."""
        path = self.directory / name
        if not path.is_file():
            return {}
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def _block_path(self, key: str, number: int) -> Path:
        return self.directory / "blocks" / key / f"{number:05}.parquet"

    def _repair(self) -> None:
        """Cut off what a kill left behind the last whole line."""
        for path in (self._records, self.directory / DETECTIONS):
            content = path.read_bytes() if path.is_file() else b""
            whole = b"".join(line + b"\n" for line in content.split(b"\n") if parsed(line) is not None)
            if whole != content:
                write_atomically(path, whole)

    def _sweep(self) -> None:
        """Remove what a kill left half-written, and the blocks of cells that are finished."""
        for part in self.directory.rglob("*.part"):
            part.unlink(missing_ok=True)
        for key, record in self.records().items():
            if record["status"] == "ok" and self.has_samples(key) and not _goes_on(record):
                self._drop_blocks(key)

    def _drop_blocks(self, key: str) -> None:
        shutil.rmtree(self.directory / "blocks" / key, ignore_errors=True)
        if self.mirror is not None:
            self.mirror.drop_blocks(key)


class Samples(Mapping[str, Columns]):
    """The per-sample columns of finished cells, read when asked for; the cells asked for last stay in memory."""

    def __init__(self, store: RunStore, keys: Iterable[str], kept: int = 64) -> None:
        self._store, self._keys, self._kept = store, dict.fromkeys(keys), kept
        self._read: dict[str, Columns] = {}

    def __getitem__(self, key: str) -> Columns:
        if key not in self._keys:
            raise KeyError(key)
        columns = self._read.pop(key, None)
        self._read[key] = self._store.samples(key) if columns is None else columns
        if len(self._read) > self._kept:
            self._read.pop(next(iter(self._read)))
        return self._read[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class ModelCache:
    """Trained weights by content key, shared by all runs of a user.

    The folder is $ROBUSTKIT_CACHE, else the user's cache folder. One process at a time trains a key; others
    that want it wait, then load it.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or cache_folder()

    def weights(self, key: str) -> Path:
        return self.directory / "models" / f"{key}.safetensors"

    def training(self, key: str) -> Path:
        """Where a training keeps its checkpoint and events until it is done."""
        return self.directory / "training" / key

    @contextmanager
    def lock(self, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Held while a key is trained; the operating system frees it when the process dies.

        `waiting` is called once where another process holds it.
        """
        folder = self.directory / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / f"{key}.lock")
        try:
            held.acquire(timeout=0)
        except Timeout:
            waiting()
            held.acquire()
        try:
            yield
        finally:
            held.release()

    def provenance(self, key: str) -> dict[str, Any] | None:
        """What is known of cached weights; None where they are not there, or not whole."""
        path = self.weights(key).with_suffix(".json")
        if not path.is_file() or not self.weights(key).is_file():
            return None
        loaded: dict[str, Any] = json.loads(path.read_text())
        return loaded

    def forget(self, key: str) -> None:
        """Drop weights and checkpoint of a key, so that it is trained anew."""
        self.weights(key).with_suffix(".json").unlink(missing_ok=True)
        self.weights(key).unlink(missing_ok=True)
        shutil.rmtree(self.training(key), ignore_errors=True)

    def describe(self, key: str, about: Mapping[str, Any]) -> None:
        """Write the provenance: the last step, which makes weights count as cached."""
        write_atomically(self.weights(key).with_suffix(".json"), json.dumps(dict(about), indent=2).encode())


def _goes_on(record: Record) -> bool:
    """Whether more may be measured of a cell that has its record."""
    return "coverage" in record or "sampled" in record


def parsed(line: bytes) -> Record | None:
    """A record, or None where the line is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "key" in record else None
