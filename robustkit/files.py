"""Files that are there whole or not at all, and arrays in them without pickle.

The command line imports this at its start: numpy waits for the first array.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a file to write beside `path`: flushed to disk it takes its place, unless something was raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.urandom(8).hex()}.part")  # another writer, elsewhere perhaps, has its own
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by rename, flushed to disk first."""
    with replacing(path) as part:
        part.write_bytes(content)


def copy_atomically(source: Path, path: Path) -> None:
    """Copy a file by rename, flushed to disk first."""
    with replacing(path) as part:
        shutil.copyfile(source, part)


def as_npz(arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> bytes:
    """Arrays by name, as the content of an npz file."""
    import numpy as np

    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def from_npz(content: Path | bytes) -> dict[str, np.ndarray]:
    """What `as_npz` was given, from a file or from its content; pickles are refused."""
    import numpy as np

    with np.load(io.BytesIO(content) if isinstance(content, bytes) else content, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
