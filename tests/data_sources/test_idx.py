from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from robustkit.data.idx import read_idx
from robustkit.params import UsageError


def idx_bytes(array: np.ndarray) -> bytes:
    """Magic number (two zeros, 8 for unsigned bytes, dimensions), big-endian sizes, the values."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


@given(array=npst.arrays(np.uint8, npst.array_shapes(max_dims=4, max_side=6)), packed=st.booleans())
@settings(deadline=None, max_examples=40)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, packed: bool) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    read = read_idx(path)
    assert read.shape == array.shape
    assert np.array_equal(read, array)
    read.fill(0)  # writable, as torch demands


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no idx file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00", "no idx file"),  # floats
        (b"<html>not found</html>", "no idx file"),
        (idx_bytes(np.zeros((3, 4), np.uint8))[:-1], "11 bytes of data"),
        (idx_bytes(np.zeros((3, 4), np.uint8)) + b"\x00", "13 bytes of data"),
        (gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)))[:-20], "damaged"),
    ],
)
def test_other_and_cut_files_are_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"train-labels-idx1-ubyte.*{words}"):
        read_idx(path)
