"""What the tests of executors share: the plugin as an installed distribution, and runs to be compared."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.executors.pool import Executor
from robustkit.host import Host
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.run import run
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache, Record, RunStore

Samples = dict[str, dict[str, np.ndarray]]


def install_plugin(folder: Path) -> None:
    """Make `folder` a place on sys.path where fleet_plugin is installed."""
    shutil.copy(Path(__file__).with_name("fleet_plugin.py"), folder / "fleet_plugin.py")
    info = folder / "fleet_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fleet-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[robustkit]\nfleet = fleet_plugin\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install_plugin(folder)
    return folder


@pytest.fixture
def marks(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugin is on the path; the folder in which its attacks count their calls."""
    folder = tmp_path / "marks"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("ROBUSTKIT_PLUGINS", "fleet")
    monkeypatch.setenv("FLEET_DIR", str(folder))
    return folder


def bench(
    tiny: str,
    directory: Path | str,
    executor: Executor | None,
    attacks: tuple[str, ...],
    listen: Callable[[Any], None] = lambda event: None,
    **changes: Any,
) -> tuple[list[Record], Samples]:
    """A bench of one linear model on 450 samples, three blocks, the last one of 50."""
    settings: dict[str, Any] = {"model": "linear", "eps": (0.1,), "recipe": {"epochs": 2}, "precision": "fp32"}
    spec = BenchSpec(dataset=tiny, attacks=attacks, device="cpu", **{**settings, **changes})
    host = Host(allow=frozenset({"fleet"}))
    store = RunStore(directory)
    store.open()
    try:
        plan = make_plan(spec, host)
        records = run(plan, store, host=host, cache=ModelCache(), listen=listen, executor=executor)
    finally:
        store.close()
    assert not list(store.directory.rglob("*.part"))
    assert not (store.directory / "shared").exists()
    return outcome(store, records)


def outcome(store: RunStore, records: list[Record] | None = None) -> tuple[list[Record], Samples]:
    """Records in the plan's order, and the samples of those that are good."""
    records = store.in_order(store.records().values()) if records is None else records
    return records, {record["key"]: store.samples(record["key"]) for record in records if record["status"] == "ok"}


def without_times(records: list[Record]) -> list[Record]:
    kept = [{key: value for key, value in record.items() if key not in ("seconds", "started")} for record in records]
    for record in kept:
        record["subject"] = {k: v for k, v in record["subject"].items() if k != "training_seconds"}
    return kept


def assert_same(one: tuple[list[Record], Samples], other: tuple[list[Record], Samples]) -> None:
    """The same records, the same verdict on every sample, distances to 1e-6."""
    assert [record["status"] for record in one[0]] == ["ok"] * len(one[0])
    for mine, theirs in zip(without_times(one[0]), without_times(other[0]), strict=True):
        assert {key: value for key, value in mine.items() if key != "metrics"} == {
            key: value for key, value in theirs.items() if key != "metrics"
        }
        assert mine["metrics"] == pytest.approx(theirs["metrics"], abs=1e-6)
        first, second = one[1][mine["key"]], other[1][mine["key"]]
        assert set(first) == set(second)
        for name, values in first.items():
            if name == "seconds":
                continue
            if values.dtype.kind == "f":
                np.testing.assert_allclose(values, second[name], atol=1e-6, rtol=1e-6)
            else:
                np.testing.assert_array_equal(values, second[name])
