"""Files that are there whole or not at all, and arrays in them without pickle.

The command line imports this at its start: numpy waits for the first array.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by rename, flushed to disk first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


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
