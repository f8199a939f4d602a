"""Files of this machine or behind URLs that fsspec understands: s3://, gs://, https://, zip://…::…, memory:// …

Credentials come from the environment or from fsspec's configuration, never from RobustKit. A URL is written into
records as it was given, so that it is no place for a password.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from robustkit.params import UsageError

_LOCAL = ("file://", "local://")
_VERSIONS = (
    "ETag", "etag", "md5Hash", "CRC", "checksum", "content_hash", "mtime", "LastModified", "last_modified", "updated",
    "modified", "created",
)  # fmt: skip
"""By which names file systems tell one content of a file from another, the surest first."""


@dataclass(frozen=True)
class Place:
    """A file or folder as its file system names it.

    Args:
        fs: an fsspec file system.
        path: there.
        text: what the user wrote, for messages.
    """

    fs: Any
    path: str
    text: str


def local_path(text: str) -> Path | None:
    """The path of this machine that a text names, "file://…" included; None where it is another URL."""
    for scheme in _LOCAL:
        if text.startswith(scheme):
            return Path(text.removeprefix(scheme)).expanduser()
    return None if "://" in text else Path(text).expanduser()


def refuse_url(path: Path) -> None:
    """Stop where a URL was taken for a path, before a folder "s3:" is made.

    Raises:
        UsageError: the path begins with a protocol.
    """
    first = path.parts[0] if path.parts else ""
    if first.endswith(":") and len(first) > 2:  # longer than the letter of a drive
        raise UsageError(f"{path}: only a bench keeps its run behind a URL; give a folder of this machine")


def place_of(text: str, where: str) -> Place:
    """Where a path or URL leads; nothing is read yet, but of what stands on the right of a "::".

    Args:
        text: a path, or a URL as fsspec writes them.
        where: the place in which it was given, for messages.

    Raises:
        UsageError: no such protocol, or one whose driver is not installed, with what to install.
    """
    path = local_path(text)
    if path is not None:
        return Place(fsspec.filesystem("file"), str(path.absolute()), text)
    try:
        fs, inside = url_to_fs(text)
    except ImportError as error:
        raise UsageError(f"{where}: {text} needs a driver that is not installed ({error})") from error
    except ValueError as error:
        known = ", ".join(sorted(fsspec.available_protocols()))
        raise UsageError(f"{where}: {text} cannot be opened ({error}); fsspec knows {known}") from error
    except Exception as error:  # a driver's own
        raise UsageError(f"{where}: {text} cannot be opened ({type(error).__name__}: {error})") from error
    return Place(fs, inside, text)


@contextlib.contextmanager
def told(what: str, done: str = "read") -> Iterator[None]:
    """Whatever a driver of a file system raises, as one line that names the file.

    Args:
        what: the file, or where it was given.
        done: what was to be done with it.

    Raises:
        UsageError: always in place of another error.
    """
    try:
        yield
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"{what}: there is no such file or folder") from error
    except NotImplementedError as error:
        raise UsageError(f"{what} cannot be {done}: its file system doesn't do that") from error
    except Exception as error:  # drivers raise errors of their own libraries
        raise UsageError(f"{what} cannot be {done} ({type(error).__name__}: {error})") from error


def version(info: Mapping[str, Any]) -> str:
    """What tells this content of a file from another one of the same size; empty where its file system says nothing."""
    return next((str(info[name]) for name in _VERSIONS if info.get(name) is not None), "")
