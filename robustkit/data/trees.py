"""Folders of files by class: on this machine, or behind a URL."""

from __future__ import annotations

import os
from bisect import bisect_left
from pathlib import Path
from typing import Protocol

from robustkit.data.remote import local_path, place_of, told, version


class Tree(Protocol):
    """A folder and all below it. `below` is relative to it, "" itself."""

    def folders(self, below: str) -> list[str] | None:
        """Names of the folders in there, sorted, hidden ones left out; None where there is no such folder."""
        ...

    def files(self, below: str) -> list[str]:
        """All files below there, sorted, under the names by which they are read."""
        ...

    def shown(self, below: str) -> str:
        """For messages."""
        ...

    def relative(self, file: str) -> str:
        """A file's name from the folder on, the same on every machine."""
        ...

    def stamp(self, file: str) -> tuple[int, str]:
        """Size in bytes, and what tells its content from another one of that size."""
        ...

    def content(self, file: str) -> bytes: ...


class LocalTree:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self, below: str) -> list[str] | None:
        folder = self._root / below
        if not folder.is_dir():
            return None
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))

    def files(self, below: str) -> list[str]:
        return sorted(
            os.path.join(base, file)  # noqa: PTH118 - a million Paths are slow
            for base, _, names in os.walk(self._root / below, followlinks=True)
            for file in names
        )

    def shown(self, below: str) -> str:
        return str(self._root / below)

    def relative(self, file: str) -> str:
        return os.path.relpath(file, self._root)

    def stamp(self, file: str) -> tuple[int, str]:
        entry = os.stat(file)  # noqa: PTH116
        return entry.st_size, str(entry.st_mtime_ns)

    def content(self, file: str) -> bytes:
        return Path(file).read_bytes()


class RemoteTree:
    """A folder behind a URL, listed once.

    Cost: one listing of all files below it; what a file is called stays in memory.

    Raises:
        UsageError: there is no such folder, or its file system cannot be reached.
    """

    def __init__(self, text: str, where: str) -> None:
        self._place = place_of(text, where)
        fs, root = self._place.fs, self._place.path.rstrip("/")
        with told(text):
            found = fs.find(root, detail=True)
        self._infos = {name[len(root) :].lstrip("/"): info for name, info in found.items()}
        self._names = sorted(self._infos)
        self._root = root

    def folders(self, below: str) -> list[str] | None:
        inside = self._range(below)
        start = len(below) + 1 if below else 0
        found = {name[start:].split("/", 1)[0] for name in inside if "/" in name[start:]}
        return sorted(name for name in found if not name.startswith(".")) if inside else None

    def files(self, below: str) -> list[str]:
        return self._range(below)

    def shown(self, below: str) -> str:
        return f"{below} in {self._place.text}" if below else self._place.text

    def relative(self, file: str) -> str:
        return file

    def stamp(self, file: str) -> tuple[int, str]:
        info = self._infos[file]
        return int(info["size"] or 0), version(info)

    def content(self, file: str) -> bytes:
        with told(self.shown(file)):
            content: bytes = self._place.fs.cat_file(self._infos[file]["name"])
        return content

    def _range(self, below: str) -> list[str]:
        """Names are sorted, so that those below a folder follow each other."""
        if not below:
            return self._names
        return self._names[
            bisect_left(self._names, f"{below}/") : bisect_left(self._names, f"{below}0")
        ]  # "0" after "/"


def tree_of(text: str, where: str) -> Tree:
    """The folder that a path or URL names."""
    path = local_path(text)
    return RemoteTree(text, where) if path is None else LocalTree(path)
