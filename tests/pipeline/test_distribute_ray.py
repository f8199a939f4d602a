"""A bench on Ray: a real cluster, the same numbers, real faults. Drivers and clusters are processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustkit.pipeline.store import RunStore
from tests.pipeline.fleet import EVERY, assert_same, assert_same_inspections, bench, installed, marks, outcome

pytest.importorskip("ray")

__all__ = ["installed", "marks"]  # fixtures

AWAKE = {"RAY_worker_niceness": "0"}
"""Ray's workers are nice; where others use all cores, those of a test would hardly ever run."""


def start(executor: str, tiny: str, directory: Path, *attacks: str, **more: Any) -> subprocess.Popen[str]:
    script = str(Path(__file__).with_name("fleet_driver.py"))
    words = [sys.executable, script, executor, tiny, str(directory), *attacks]
    return subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env=os.environ | AWAKE | {"FLEET_MORE": json.dumps(more)}
    )


def ended(driver: subprocess.Popen[str]) -> None:
    try:
        _, said = driver.communicate(timeout=400)
    finally:
        driver.kill()
    assert driver.returncode == 0, said[-3000:]


def test_actors_give_the_numbers_of_one_process_even_where_one_is_killed(
    tiny: str, tmp_path: Path, marks: Path
) -> None:
    """Attacks, smoothing and detectors, on one node."""
    attacks = ("pgd:steps=5", "fleet.kills")
    ended(start("ray", tiny, tmp_path / "spread", *attacks, **EVERY))
    assert len((marks / "kills1").read_text().splitlines()) == 3 + 1  # three models, and the one that was killed
    assert_same(bench(tiny, tmp_path / "whole", None, attacks, **EVERY), outcome(RunStore(tmp_path / "spread")))
    assert_same_inspections(tmp_path / "whole", tmp_path / "spread", 3 * 5 + 3 * 2 * 2)


@pytest.fixture
def cluster(marks: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a cluster of two nodes with a core each, and its process."""
    script = str(Path(__file__).with_name("fleet_cluster.py"))
    process = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | AWAKE
    )
    assert process.stdout is not None
    yield f"ray:{process.stdout.readline().strip()}", process
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()


@pytest.mark.slow
def test_two_nodes_give_the_numbers_of_one_process(
    tiny: str, tmp_path: Path, marks: Path, cluster: tuple[str, subprocess.Popen[str]]
) -> None:
    """Attacks, smoothing and detectors."""
    attacks = ("pgd:steps=5", "transfer:attack=fgsm")
    ended(start(cluster[0], tiny, tmp_path / "spread", *attacks, **EVERY))
    assert_same(bench(tiny, tmp_path / "whole", None, attacks, **EVERY), outcome(RunStore(tmp_path / "spread")))
    assert_same_inspections(tmp_path / "whole", tmp_path / "spread", 3 * 5 + 3 * 2 * 2)


@pytest.mark.slow
def test_two_nodes_and_every_fault_of_a_worker(
    tiny: str, tmp_path: Path, marks: Path, cluster: tuple[str, subprocess.Popen[str]]
) -> None:
    good, bad = ("pgd:steps=5", "fleet.noise", "fleet.kills", "fleet.greedy"), ("fleet.kills:times=9", "fleet.raises")
    driver = start(cluster[0], tiny, tmp_path / "spread", *good, *bad)
    ended(driver)
    records, samples = outcome(RunStore(tmp_path / "spread"))
    failed = {record["component"]["label"]: record["error"] for record in records if record["status"] == "error"}
    assert set(failed) == set(bad)
    assert "block 2 cost 3 workers" in failed["fleet.kills:times=9"]
    assert failed["fleet.raises"] == "RuntimeError: boom"
    calls = {path.name: len(path.read_text().splitlines()) for path in marks.iterdir()}
    assert calls == {"noise": 3, "kills1": 2, "greedy1": 2, "kills9": 3}
    whole = bench(tiny, tmp_path / "whole", None, good)
    assert_same(whole, ([record for record in records if record["status"] == "ok"], samples))


@pytest.mark.slow
def test_a_node_that_disappears_and_a_driver_that_is_killed(
    tiny: str, tmp_path: Path, marks: Path, cluster: tuple[str, subprocess.Popen[str]]
) -> None:
    attacks = ("fleet.noise:pause=1.0", "fleet.noise:pause=0.9", "fleet.noise:pause=0.8")
    driver = start(cluster[0], tiny, tmp_path / "torn", *attacks)
    _wait_for_blocks(tmp_path / "torn", 1, driver)
    driver.kill()
    driver.communicate(timeout=60)
    again = start(cluster[0], tiny, tmp_path / "torn", *attacks)
    _wait_for_blocks(tmp_path / "torn", 3, again)
    assert cluster[1].stdin is not None
    cluster[1].stdin.write("remove\n")
    cluster[1].stdin.flush()
    ended(again)
    assert len((marks / "noise").read_text().split()) <= 9 + 4 + 4  # two groups a worker were under way, each time
    assert_same(bench(tiny, tmp_path / "whole", None, attacks), outcome(RunStore(tmp_path / "torn")))


def _wait_for_blocks(directory: Path, count: int, driver: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    key_of_clean = None
    while len(list(directory.glob("blocks/*/*.parquet"))) < count or key_of_clean is None:
        key_of_clean = next(iter(RunStore(directory).records()), None)  # the clean cell is done: these are attacks
        assert driver.poll() is None
        assert time.monotonic() - began < 400
        time.sleep(0.05)
