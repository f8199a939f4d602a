"""A run directory behind a URL: the run works in a copy on this machine, and every file goes there whole."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robustkit.data.images import in_threads
from robustkit.data.remote import place_of, told
from robustkit.files import write_atomically
from robustkit.pipeline.lease import Lease, write_object

_WRITTEN_AT_ONCE = ("blocks", "samples", "pictures", "adversarial")
"""Folders whose files are put as they are written, and so need not be looked through."""
_NEVER = ("shared",)


class Mirror:
    """Files under a URL, and their copy in a folder of this machine, which is thrown away with the process.

    Whole objects are written, one a file: object stores replace them atomically. Blocks are the many small ones; they
    are listed, and fetched when they are asked for.

    Args:
        url: of the run directory, as fsspec understands it.

    Raises:
        UsageError: no such protocol, or one whose driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._place = place_of(self.url, "run directory")
        self._fs, self._root = self._place.fs, self._place.path.rstrip("/")
        self.folder = Path(tempfile.mkdtemp(prefix="robustkit-run-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._put: dict[str, tuple[int, int]] = {}
        self._blocks: dict[str, set[int]] = {}
        self._lease: Lease | None = None

    def take(self) -> None:
        """Lock the run directory for this process, and fetch what is in it.

        Raises:
            UsageError: another process is at work there, or it cannot be written.
        """
        lease = Lease(self._place)
        lease.take()
        try:
            self.fetch()
        except BaseException:
            lease.release()
            raise
        self._lease = lease

    def release(self) -> None:
        """Put what is left, and let others in."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            lease.check()
            self.push()
        finally:
            lease.release()

    def fetch(self) -> None:
        """Copy what is behind the URL, without locking it."""
        self._fs.invalidate_cache()
        with told(self.url):
            try:
                found = self._fs.find(self._root)
            except FileNotFoundError:
                found = []
        names = [name[len(self._root) :].lstrip("/") for name in found]
        self._blocks = {}
        for name in names:
            if name.startswith("blocks/") and name.endswith(".parquet"):
                _, key, file = name.split("/", 2)
                self._blocks.setdefault(key, set()).add(int(file[:-8]))
        in_threads(self._fetch, [name for name in names if not name.startswith(("blocks/", "."))])

    def blocks(self, key: str) -> set[int]:
        """The numbers of a cell's blocks behind the URL."""
        return set(self._blocks.get(key, ()))

    def fetch_block(self, key: str, number: int, path: Path) -> None:
        """Copy one block, if it is there."""
        if number in self._blocks.get(key, ()):
            self._fetch(self._name(path))

    def put(self, path: Path) -> None:
        """Write a file of the copy behind the URL.

        Raises:
            UsageError: it cannot be written, or another process has taken the run directory.
        """
        if self._lease is not None:
            self._lease.check()
        name = self._name(path)
        mark = _mark(path)
        with told(f"{self.url}/{name}", "written"):
            write_object(self._fs, f"{self._root}/{name}", path.read_bytes())
        self._put[name] = mark
        parts = name.split("/")
        if parts[0] == "blocks":
            self._blocks.setdefault(parts[1], set()).add(int(path.stem))

    def push(self) -> None:
        """Write what has changed in the copy since it was fetched or written: weights, tables, the page."""
        changed: list[Path] = []
        for folder, folders, files in os.walk(self.folder):
            if Path(folder) == self.folder:
                folders[:] = [name for name in folders if name not in (*_WRITTEN_AT_ONCE, *_NEVER)]
            for name in files:
                path = Path(folder) / name
                if (
                    not name.startswith(".")
                    and path.suffix != ".part"
                    and self._put.get(self._name(path)) != _mark(path)
                ):
                    changed.append(path)
        in_threads(self.put, changed)

    def drop_blocks(self, key: str) -> None:
        """Remove the blocks of a cell behind the URL."""
        self._remove(f"blocks/{key}/{number:05}.parquet" for number in self._blocks.pop(key, ()))

    def drop(self, name: str) -> None:
        """Remove one file behind the URL, if it is there."""
        self._put.pop(name, None)
        self._remove([name])

    def _remove(self, names: Iterable[str]) -> None:
        def one(name: str) -> None:
            with told(f"{self.url}/{name}", "removed"):
                try:
                    self._fs.rm_file(f"{self._root}/{name}")
                except FileNotFoundError:
                    return

        in_threads(one, names)

    def _fetch(self, name: str) -> None:
        with told(f"{self.url}/{name}"):
            content: bytes = self._fs.cat_file(f"{self._root}/{name}")
        path = self.folder / name
        write_atomically(path, content)
        self._put[name] = _mark(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _mark(path: Path) -> Any:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
