"""A bench on worker processes: the same numbers, and faults that cost neither a number nor the run. All real."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustkit.executors.local import LocalExecutor
from robustkit.pipeline.detect import inspections_of
from robustkit.pipeline.events import BlockDone
from tests.pipeline.fleet import EVERY, assert_same, assert_same_inspections, bench, installed, marks

__all__ = ["installed", "marks"]  # fixtures


def test_numbers_do_not_depend_on_workers(tiny: str, tmp_path: Path, marks: Path) -> None:
    """Attacks, smoothing and detectors, over models that are trained, wrapped and poisoned."""
    attacks = ("fgsm", "pgd:steps=5", "transfer:attack=fgsm")
    whole = bench(tiny, tmp_path / "whole", None, attacks, **EVERY)
    assert len(whole[0]) == 15
    for workers in (1, 2):
        assert_same(whole, bench(tiny, tmp_path / f"by {workers}", LocalExecutor(workers), attacks, **EVERY))
        assert_same_inspections(tmp_path / "whole", tmp_path / f"by {workers}", 3 * 5 + 3 * 3 * 2)


def test_workers_read_their_own_blocks_from_shards(tmp_path: Path, marks: Path) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (3, 8, 8, 3))
    for part, count in (("train", 150), ("test", 150)):
        for shard in range(2):
            with tarfile.open(tmp_path / f"{part}-{shard}.tar", "w") as tar:
                for k in range(count):
                    image = np.clip(patterns[k % 3] + rng.normal(0, 40, (8, 8, 3)), 0, 255).astype(np.uint8)
                    content = io.BytesIO()
                    Image.fromarray(image).save(content, "png")
                    for name, what in ((f"{k:04}.png", content.getvalue()), (f"{k:04}.cls", str(k % 3).encode())):
                        member = tarfile.TarInfo(name)
                        member.size = len(what)
                        tar.addfile(member, io.BytesIO(what))
    data = f"webdataset:file://{tmp_path}/train-{{0..1}}.tar:test={tmp_path}/test-*.tar:size=8"
    whole = bench(data, tmp_path / "whole", None, ("fgsm", "fleet.noise"))
    assert whole[0][0]["dataset"]["n"] == 300  # two blocks, the first of which reaches into the second shard
    assert_same(whole, bench(data, tmp_path / "spread", LocalExecutor(2), ("fgsm", "fleet.noise")))


def test_a_cascade_on_a_checkpoint_is_the_same(tiny: str, tmp_path: Path, marks: Path) -> None:
    bench(tiny, tmp_path / "trained", None, ())
    given = {"checkpoint": str(tmp_path / "trained" / "models" / "standard-seed0.safetensors"), "cascade": True}
    attacks = ("fgsm", "fleet.noise", "pgd:steps=5")
    whole = bench(tiny, tmp_path / "whole", None, attacks, **given)
    assert len(whole[0][-1]["after"]) == 2
    assert_same(whole, bench(tiny, tmp_path / "spread", LocalExecutor(2), attacks, **given))


def test_faults_cost_neither_the_run_nor_a_number(tiny: str, tmp_path: Path, marks: Path) -> None:
    """A worker killed, one out of memory, a block that kills every worker, an attack that raises, and the same of
    detectors: in one run.
    """
    good = ("fleet.noise", "fleet.kills", "fleet.greedy")
    bad = ("fleet.kills:times=9", "fleet.raises")
    events: list[Any] = []
    detectors = ["fleet.suspects:times=1", "fleet.suspects:times=9", "fleet.refuses"]
    records, samples = bench(
        tiny, tmp_path / "torn", LocalExecutor(2), (*good, *bad), events.append, detectors=detectors
    )
    failed = {record["component"]["label"]: record for record in records if record["status"] == "error"}
    assert set(failed) == set(bad)
    assert "block 2 cost 3 workers" in failed["fleet.kills:times=9"]["error"]
    assert "SIGKILL" in failed["fleet.kills:times=9"]["error"]
    assert failed["fleet.raises"]["error"] == "RuntimeError: boom"
    assert any("raise RuntimeError" in line for line in failed["fleet.raises"]["traceback"])
    said, costly, refused = inspections_of(tmp_path / "torn")
    assert said["error"] is None
    assert "block 0 cost 3 workers" in costly["error"]
    assert refused["error"] == "RuntimeError: no verdict"
    calls = {path.name: len(path.read_text().splitlines()) for path in marks.iterdir()}
    assert (calls["suspects1"], calls["suspects9"], calls["kills9"]) == (2, 3, 3)
    assert (calls["kills1"], calls["greedy1"]) == (2, 2)  # the one that failed, and the one that did the work
    done = Counter(event.cell.label for event in events if isinstance(event, BlockDone))
    assert [done[label] for label in ("clean", *good)] == [3] * 4
    whole = bench(tiny, tmp_path / "whole", None, good, detectors=detectors[:1])  # by now they neither kill nor eat
    assert inspections_of(tmp_path / "whole")[0]["score"] == pytest.approx(said["score"], abs=1e-6)
    assert_same(whole, ([record for record in records if record["status"] == "ok"], samples))


def test_a_driver_that_was_killed_goes_on_where_it_stopped(tiny: str, tmp_path: Path, marks: Path) -> None:
    attacks = ("fleet.noise:pause=0.4", "fleet.noise:pause=0.3", "fleet.noise:pause=0.2")
    words = [
        sys.executable,
        str(Path(__file__).with_name("fleet_driver.py")),
        "local",
        tiny,
        str(tmp_path / "torn"),
        *attacks,
    ]
    driver = subprocess.Popen(words)
    began = time.monotonic()
    noise = marks / "noise"
    while not noise.is_file() or len(noise.read_text().split()) < 6:  # of nine; two workers have finished some of them
        assert driver.poll() is None
        assert time.monotonic() - began < 400
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    workers = {int(line) for line in (marks / "noise").read_text().split()}
    while any(_alive(worker) for worker in workers):
        assert time.monotonic() - began < 500
        time.sleep(0.1)
    before = len((marks / "noise").read_text().split())
    found = bench(tiny, tmp_path / "torn", LocalExecutor(2), attacks)
    again = len((marks / "noise").read_text().split()) - before
    assert before + again <= 9 + 4  # nine blocks; no more than two groups a worker were under way
    assert again < 9
    assert_same(bench(tiny, tmp_path / "whole", None, attacks), found)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
