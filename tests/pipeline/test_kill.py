"""SIGKILL at random moments, and two processes at once: real processes, nothing simulated."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustkit.api import load
from robustkit.pipeline.store import RunStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def _children(*arguments: str, trainings: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRAININGS": str(trainings)}
    script = str(Path(__file__).with_name("killed.py"))
    done = subprocess.run(
        [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _outcome(folder: Path) -> dict[str, Any]:
    """Records without their times, and the samples."""
    store = RunStore(folder)
    outcome = {}
    for key, record in store.records().items():
        record["subject"].pop("training_seconds")
        kept = {name: value for name, value in record.items() if name not in ("seconds", "started")}
        outcome[key] = (kept, {name: values.tolist() for name, values in store.samples(key).items()})
    return outcome


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_records(tiny: str, tmp_path: Path) -> None:
    out = _children("kill", tiny, str(tmp_path), "10", trainings=tmp_path / "trainings")
    kills = int(out.split()[-1])
    assert kills >= 5
    whole, torn = _outcome(tmp_path / "whole"), _outcome(tmp_path / "torn")
    assert len(whole) == 8
    assert torn == whole
    assert not list((tmp_path / "torn").rglob("*.part"))
    assert not list((tmp_path / "torn" / "blocks").glob("*"))
    # two models of three blocks each, and no kill costs more than the one block at work
    attacks = Counter((tmp_path / "attacks").read_text().splitlines())
    assert attacks["whole"] == 6
    assert 6 <= attacks["torn"] <= 6 + kills


def test_a_budget_that_is_killed_again_and_again_buys_the_same(tiny: str, tmp_path: Path) -> None:
    out = _children("spend", tiny, str(tmp_path), "8", trainings=tmp_path / "trainings")
    kills = int(out.split()[-1])
    assert kills >= 3
    tables = [load(tmp_path / name).table.set_index("defense") for name in ("whole", "torn")]
    assert tables[0]["worst case"].to_dict() == tables[1]["worst case"].to_dict()
    for name in ("whole", "torn"):
        records = RunStore(tmp_path / name).records().values()
        assert {r["coverage"]["open"] for r in records if r["kind"] == "attack" and r["status"] == "ok"} == {0}
        assert {r["status"] for r in records} == {"ok"}
    assert not list((tmp_path / "torn").rglob("*.part"))
    # no block of a cell is lost but the one at work
    attacks = Counter((tmp_path / "attacks").read_text().splitlines())
    assert attacks["torn"] <= 6 + kills
    trials = pd.read_csv(tmp_path / "torn" / "tables" / "anytime.csv")
    assert not trials.duplicated(["defense", "attack", "block"]).any()
    assert trials["seconds"].is_monotonic_increasing


def test_two_runs_at_once_train_one_model_and_both_finish(tiny: str, tmp_path: Path) -> None:
    trainings = tmp_path / "trainings"
    _children("together", tiny, str(tmp_path), trainings=trainings)
    assert len(trainings.read_text().splitlines()) == 1
    one, two = _outcome(tmp_path / "one"), _outcome(tmp_path / "two")
    assert one == two
    assert len(one) == 8
    assert all(np.isfinite(record["metrics"]["clean_accuracy"]) for record, _ in one.values())
