from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.params import UsageError
from robustkit.pipeline.detect import read_records
from robustkit.pipeline.inspections import keep_records
from robustkit.pipeline.parquet import encoded
from robustkit.pipeline.store import DETECTIONS, RunStore, Samples

COLUMNS = {"index": np.arange(3), "success": np.array([True, False, True]), "dist_linf": np.float32([0.1, 0, 0.2])}


def _record(key: str, **more: Any) -> dict[str, Any]:
    return {"schema": 1, "key": key, "status": "ok", **more}


def _fill(folder: Path, keys: list[str]) -> bytes:
    store = RunStore(folder)
    store.open()
    for key in keys:
        store.finish(_record(key, words="µ ± \n"), COLUMNS)
    store.close()
    return (folder / "records.jsonl").read_bytes()


@given(cut=st.integers(0, 10_000), junk=st.binary(max_size=12))
@settings(deadline=None, max_examples=60)
def test_a_torn_tail_costs_only_the_torn_record(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("run")
    whole = _fill(folder, ["a", "b", "c"])
    cut %= len(whole) + 1
    (folder / "records.jsonl").write_bytes(whole[:cut] + junk)
    lines = whole.splitlines(keepends=True)
    # a line that lost nothing but its end of line is whole as well
    kept = sum(cut >= len(b"".join(lines[: i + 1])) - 1 for i in range(3)) if not junk else None
    store = RunStore(folder)
    store.open()
    found = list(store.records())
    assert found == ["a", "b", "c"][: len(found)]
    if kept is not None:
        assert len(found) == kept
    else:
        assert len(found) >= sum(cut >= len(b"".join(lines[: i + 1])) for i in range(3))
    store.finish(_record("d"), COLUMNS)
    store.close()
    repaired = (folder / "records.jsonl").read_bytes()
    assert repaired.endswith(b"\n")
    assert [json.loads(line)["key"] for line in repaired.splitlines()] == [*found, "d"]


def test_a_torn_line_of_detections_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / DETECTIONS
    path.write_text('{"key": "a", "error": null}\n{"key": "b", "err')
    assert list(read_records(tmp_path)) == ["a"]
    store = RunStore(tmp_path)
    store.open()
    keep_records(store, [{"key": "b", "error": None}, {"key": "a", "error": "again"}])
    store.close()
    assert {key: record["error"] for key, record in read_records(tmp_path).items()} == {"a": "again", "b": None}


def test_readers_do_not_touch_a_torn_file(tmp_path: Path) -> None:
    whole = _fill(tmp_path, ["a", "b"])
    (tmp_path / "records.jsonl").write_bytes(whole[:-5])
    assert list(RunStore(tmp_path).records()) == ["a"]
    assert (tmp_path / "records.jsonl").read_bytes() == whole[:-5]


def test_the_last_record_of_a_cell_counts(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.open()
    store.finish(_record("a") | {"status": "error"}, None)
    store.finish(_record("b"), COLUMNS)
    store.finish(_record("a"), COLUMNS)
    store.close()
    assert {key: record["status"] for key, record in store.records().items()} == {"a": "ok", "b": "ok"}


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.open()
    store.finish(_record("a"), COLUMNS)
    found = store.samples("a")
    assert list(found) == list(COLUMNS)
    for name, values in COLUMNS.items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values)
    store.close()


def test_what_a_kill_left_is_swept_away(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.open()
    store.write_block("a", 0, encoded(COLUMNS, {"seconds": 1.0}))
    store.write_block("b", 0, encoded(COLUMNS, {"seconds": 1.0}))
    store.finish(_record("a"), COLUMNS)
    store.write_block("a", 0, encoded(COLUMNS, {"seconds": 1.0}))  # as if killed before the blocks were removed
    (tmp_path / "samples" / "b.parquet.123.part").write_bytes(b"half")
    store.close()
    store.open()
    assert not (tmp_path / "blocks" / "a").exists()
    assert store.block("b", 0) is not None  # of a cell that is not done
    assert not list(tmp_path.rglob("*.part"))
    store.close()


def test_a_directory_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.open()
    with pytest.raises(UsageError, match="another process is at work"):
        RunStore(tmp_path).open()
    store.close()
    other = RunStore(tmp_path)
    other.open()
    other.close()


def test_samples_of_many_cells_are_read_when_asked_for(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.open()
    for number in range(5):
        store.finish(_record(str(number)), {"index": np.array([number])})
    store.close()
    samples = Samples(store, "0123", kept=2)
    assert (list(samples), len(samples)) == (["0", "1", "2", "3"], 4)
    assert [samples[key]["index"].tolist() for key in "0123"] == [[0], [1], [2], [3]]
    (tmp_path / "samples" / "3.parquet").unlink()
    (tmp_path / "samples" / "0.parquet").unlink()
    assert samples["3"]["index"].tolist() == [3]  # kept
    with pytest.raises(FileNotFoundError):
        samples["0"]  # let go of
    with pytest.raises(KeyError):
        samples["4"]
