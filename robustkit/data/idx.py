"""The idx format of MNIST's page: a magic number, the sizes, then bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from robustkit.params import UsageError

_UNSIGNED_BYTES = b"\x00\x00\x08"


def read_idx(path: Path) -> np.ndarray[Any, Any]:
    """An idx file of unsigned bytes, plain or gzip (told from the content), as a writable uint8 array.

    Raises:
        UsageError: another format, or a file that is cut off.
    """
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged ({error}); place it again") from error
    if content[:3] != _UNSIGNED_BYTES or len(content) < 4 + 4 * content[3]:
        raise UsageError(f"{path} is no idx file of unsigned bytes; place the published file")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[4 + 4 * k : 8 + 4 * k], "big") for k in range(dimensions)]
    if len(content) - start != np.prod(shape, dtype=np.int64):
        raise UsageError(f"{path} has {len(content) - start} bytes of data, its head says {shape}; place it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
