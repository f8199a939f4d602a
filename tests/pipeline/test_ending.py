"""SIGTERM in the midst of a cell: the run ends, and goes on where it stopped. Real processes, and real Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from robustkit.pipeline.ending import terminable
from robustkit.pipeline.store import RunStore
from tests.pipeline.fleet import assert_same, bench, installed, marks

__all__ = ["installed", "marks"]  # fixtures

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")


@pytest.mark.parametrize("how", ["exit", pytest.param("after-ray", marks=pytest.mark.slow)])
def test_a_handler_that_exits_ends_the_run_and_not_a_cell(how: str, tiny: str, tmp_path: Path, marks: Path) -> None:
    if how == "after-ray":
        pytest.importorskip("ray")
    attacks = ("fleet.noise:pause=0.5", "fleet.noise:pause=0.4")
    script = str(Path(__file__).with_name("fleet_driver.py"))
    driver = subprocess.Popen([sys.executable, script, how, tiny, str(tmp_path / "torn"), *attacks])
    began = time.monotonic()
    noise = marks / "noise"
    while not noise.is_file() or len(noise.read_text().split()) < 2:  # the second block of six is at work
        assert driver.poll() is None
        assert time.monotonic() - began < 400
        time.sleep(0.02)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=100) == signal.SIGTERM  # what was asked of sys.exit
    records = RunStore(tmp_path / "torn").records().values()
    assert [record["kind"] for record in records] == ["clean"]
    before = len(noise.read_text().split())
    found = bench(tiny, tmp_path / "torn", None, attacks)
    assert len(noise.read_text().split()) <= 6 + 1
    assert before < 6
    assert_same(bench(tiny, tmp_path / "whole", None, attacks), found)


def _forgiving() -> None:
    """A cell that is terminated."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    except (Exception, SystemExit):
        pytest.fail("it was taken for an error of what was at work")


def test_exits_of_what_is_at_work_are_its_own_and_the_handler_comes_back() -> None:
    def exits(*_: object) -> None:
        raise SystemExit(9)

    before = signal.signal(signal.SIGTERM, exits)
    try:
        with terminable(), pytest.raises(SystemExit, match="no licence"):
            raise SystemExit("no licence")
        with pytest.raises(SystemExit) as found, terminable():
            _forgiving()
        assert found.value.code == 9
        assert signal.getsignal(signal.SIGTERM) is exits
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_a_handler_and_in_other_threads_nothing_changes() -> None:
    seen = []

    def look() -> None:
        with terminable():
            seen.append(signal.getsignal(signal.SIGTERM))

    look()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)] * 2
