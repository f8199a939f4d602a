"""Files by rename, and arrays without pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustkit.files import as_npz, from_npz, replacing, write_atomically


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back_from_content_and_file(tmp_path: Path, compressed: bool) -> None:
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "names": np.array(["a", "b"])}
    content = as_npz(arrays, compressed=compressed)
    write_atomically(tmp_path / "below" / "x.npz", content)
    for found in (from_npz(content), from_npz(tmp_path / "below" / "x.npz")):
        assert list(found) == list(arrays)
        assert all(
            np.array_equal(found[name], arrays[name]) and found[name].dtype == arrays[name].dtype for name in found
        )
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["x.npz"]


def test_what_fails_half_way_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "below" / "x.txt"
    write_atomically(path, b"old")

    def fail() -> None:
        with replacing(path) as part:
            part.write_bytes(b"ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_bytes() == b"old"
    with replacing(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert [(found.name, found.read_bytes()) for found in path.parent.iterdir()] == [("x.txt", b"new")]


def test_a_pickle_is_refused() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        from_npz(as_npz({"x": np.array([{}], dtype=object)}))
