"""What the tests of executors share: the plugin as an installed distribution, and runs to be compared."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.api import run_plan
from robustkit.executors.pool import Executor
from robustkit.host import Host
from robustkit.pipeline.detect import inspections_of
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import Record, RunStore

Samples = dict[str, dict[str, np.ndarray]]

EVERY: dict[str, Any] = {
    "defenses": ["fgsm_at", "quantise"],
    "certifiers": ["smoothing:sigma=0.25:n=200:n0=20"],
    "poison": "badnets:target=1:rate=0.2:size=2",
    "detectors": ["neural_cleanse:steps=5:batches=2", "spectral_signatures", "strip:overlays=5", "mahalanobis"],
    "norm": "l2",
    "eps": [0.5],
}
"""Settings with every kind of work: smoothing, detectors of models, of training sets, and of inputs."""


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
    found = run_plan(make_plan(spec, host), directory, host, listen, executor)  # keeps the copy of what is behind a URL
    assert found.directory is not None
    assert not list(found.directory.rglob("*.part"))
    assert not (found.directory / "shared").exists()
    return outcome(RunStore(found.directory))


def outcome(store: RunStore) -> tuple[list[Record], Samples]:
    """Records in the plan's order, and the samples of those that are good."""
    records = store.in_order(store.records().values())
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


def assert_same_inspections(one: Path, other: Path, count: int) -> None:
    """The same `count` records of backdoors and detectors, numbers to 1e-6, and pictures of the same."""
    shown = [{path.name for path in (directory / "pictures").iterdir()} for directory in (one, other)]
    assert shown[0] == shown[1]
    found = [
        [{name: value for name, value in record.items() if name != "seconds"} for record in inspections_of(directory)]
        for directory in (one, other)
    ]
    assert [record["error"] for record in found[0]] == [None] * count
    for mine, theirs in zip(*found, strict=True):
        first, second = dict(_leaves(mine)), dict(_leaves(theirs))
        assert first.keys() == second.keys()
        for path, value in first.items():
            assert second[path] == (pytest.approx(value, abs=1e-6, rel=1e-6) if isinstance(value, float) else value)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What stands in nested values, and where."""
    if isinstance(value, dict | list):
        for place, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, f"{path}/{place}")
    else:
        yield path, value
