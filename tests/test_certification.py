"""Certification of several models, and what a kill leaves."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import robustkit
from robustkit.certification import Certification
from robustkit.cli.app import app
from robustkit.cli.certify import numbers
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.pipeline.certified_rows import Asked, Sheet, certify_group
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache
from robustkit.pipeline.subjects import build_subject

QUICK: dict[str, Any] = {"recipe": {"epochs": 1}, "device": "cpu", "eps": [0.1], "norm": "linf"}
COLUMNS = ["index", "label", "prediction", "radius", "tested", "nA", "n", "looks", "passes", "seconds"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two patterns that a linear network tells apart through some noise."""
    rng = np.random.default_rng(1)
    patterns = rng.integers(40, 216, (2, 6, 6))
    y = np.arange(400) % 2
    x = np.clip(patterns[y] + rng.normal(0, 30, (400, 6, 6)), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "two.npz"
    np.savez(path, x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return f"npz:{path}"


def certify(data: str, directory: Path, **more: object) -> Certification:
    settings = {
        "sigma": (0.1, 0.25),
        "radii": (0.0, 0.1, 0.25),
        "certifier": "smoothing:n=500",
        "limit": 50,
        **more,
    }
    return robustkit.certify(
        ["standard", "noise:sigma=0.1"],
        directory=directory,
        dataset=data,
        model="linear",
        eps=[0.1],
        norm="linf",
        recipe={"epochs": 2},
        device="cpu",
        **settings,  # type: ignore[arg-type]
    )


def rows_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    """By file, without the times."""
    found = {}
    for path in sorted((folder / "rows").glob("*.csv")):
        with path.open() as file:
            found[path.name] = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return found


def test_a_table_over_models_and_noise_levels(data: str, tmp_path: Path) -> None:
    found = certify(data, tmp_path)
    table = found.table
    assert table["defense"].tolist() == ["standard"] * 2 + ["noise:sigma=0.1"] * 2
    assert table["sigma"].tolist() == [0.1, 0.25] * 2
    assert (table[["certified", "wrong", "abstained"]].sum(axis=1) == 50).all()
    for _, row in table.iterrows():
        columns = found.rows[row["defense"], 0, row["certifier"]]
        right = columns["prediction"] == columns["label"]
        assert row["ACR (all images)"] == pytest.approx((columns["radius"] * right).mean())
        assert row["mean radius (certified only)"] == pytest.approx(columns["radius"][right].mean())
        assert row["r=0"] >= row["r=0.1"] >= row["r=0.25"]
    assert table["certified"].min() > 0
    with next((tmp_path / "rows").glob("*.csv")).open() as file:
        reader = csv.DictReader(file)
        assert len(list(reader)) == 50
        assert reader.fieldnames == COLUMNS
    assert {"table.csv", "table.md", "curves.svg", "curves.png"} <= {path.name for path in tmp_path.iterdir()}
    assert "noise:sigma=0.1" in (tmp_path / "curves.svg").read_text() or (tmp_path / "curves.svg").stat().st_size > 1000
    words = (tmp_path / "table.md").read_text()
    assert "ACR (all images)" in words
    assert "probability at least 0.999" in words


def test_rows_are_read_again_cut_and_continued(data: str, tmp_path: Path) -> None:
    whole = certify(data, tmp_path / "a")
    kept = rows_of(tmp_path / "a")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "rows").glob("*.csv")}
    again = certify(data, tmp_path / "a")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert again.table.equals(whole.table)
    path = next(iter(stamps))
    path.write_bytes(path.read_bytes()[:-700])  # in the middle of a row and of a group
    certify(data, tmp_path / "a")
    assert rows_of(tmp_path / "a") == kept
    certify(data, tmp_path / "a", limit=70)
    longer = rows_of(tmp_path / "a")
    assert all(len(rows) == 70 for rows in longer.values())
    assert all(rows[:40] == kept[name][:40] for name, rows in longer.items())
    assert certify(data, tmp_path / "a").table["n"].tolist() == [50] * 4


def test_workers_give_the_same_rows(data: str, tmp_path: Path) -> None:
    """Two real processes; models that are trained, and one that is a file."""
    certify(data, tmp_path / "first", limit=1)
    more = {"checkpoints": [tmp_path / "first" / "models" / "standard-seed0.safetensors"]}
    one = certify(data, tmp_path / "one", **more)
    two = certify(data, tmp_path / "two", workers=2, **more)
    assert rows_of(tmp_path / "two") == rows_of(tmp_path / "one")
    assert len(rows_of(tmp_path / "one")) == 6
    assert two.table.drop(columns="seconds").equals(one.table.drop(columns="seconds"))
    assert two.guarantee == one.guarantee
    assert certify(data, tmp_path / "two", workers=2, **more).table.equals(two.table)  # answered from the rows
    notes = [
        {path.name: path.read_text() for path in (tmp_path / run / "rows").glob("*.json")} for run in ("one", "two")
    ]
    assert notes[0] == notes[1]


def test_what_a_certifier_raises_in_a_worker_is_told(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"standard / linear: .*goes on from there"):
        robustkit.certify(directory=tmp_path, certifier="linear", dataset=data, model="mlp", workers=2, **QUICK)


def test_groups_that_come_in_any_order_are_written_in_theirs(data: str, tmp_path: Path) -> None:
    plan = make_plan(BenchSpec.from_plain({"dataset": data, "model": "linear", "limit": 50, **QUICK}, "here"), Host())
    built = build_subject(plan.subjects[0], plan, Host(), ModelCache(), None)
    certifier = Asked("smoothing:n=200").build(Host())
    for name, order in (("there", (0, 1, 2)), ("here", (2, 1, 0))):
        sheet = Sheet(built, certifier, plan, tmp_path / name / "rows")
        for number in order:
            rows, guarantee, _ = certify_group(built.model, certifier, plan, sheet.key, number)
            sheet.add(number, rows, guarantee)
            if name == "here":
                assert bool(rows_of(tmp_path / name)) == (number == 0)  # nothing before the first group is there
        assert len(sheet.missing) == 0
    assert rows_of(tmp_path / "here") == rows_of(tmp_path / "there")
    assert [len(rows) for rows in rows_of(tmp_path / "here").values()] == [50]


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_certification import slowly
slowly(sys.argv[1], Path(sys.argv[2]))
"""


def slowly(data: str, directory: Path) -> None:
    """100 images at 4,100 passes each: time enough to be killed in."""
    more = {"sigma": (0.25,), "radii": (0.0, 0.25), "certifier": "smoothing:mode=fixed:n=4000:batch_size=500"}
    certify(data, directory, limit=100, **more)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_loses_one_group_at_most(data: str, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    child = subprocess.Popen([sys.executable, "-c", CHILD, data, str(torn), str(Path(__file__).parent)])
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and child.poll() is None:
        files = list((torn / "rows").glob("*.csv"))
        if files and files[0].read_bytes().count(b"\n") > 20:
            break
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = next(iter(rows_of(torn).values()))
    assert 20 <= len(before) <= 100
    slowly(data, torn)
    slowly(data, tmp_path / "whole")
    after = rows_of(torn)
    assert after == rows_of(tmp_path / "whole")
    assert [len(rows) for rows in after.values()] == [100, 100]


def test_the_command(data: str, tmp_path: Path) -> None:
    arguments = ["certify", "--dataset", data, "--model", "linear", "--epochs", "1", "--limit", "20", "-q"]
    runner = CliRunner()
    more = ["--sigma", "0.1", "--radii", "0:0.2:0.1", "--certifier", "smoothing:n=200", "-o", str(tmp_path / "run")]
    done = runner.invoke(app, [*arguments, *more])
    assert done.exit_code == 0, done.output
    assert "| r=0 | r=0.1 | r=0.2 |" in done.stdout
    weights = next((tmp_path / "run" / "models").glob("*.safetensors"))
    done = runner.invoke(app, [*arguments, "--checkpoint", str(weights), *more[:-1], str(tmp_path / "given")])
    assert done.exit_code == 0, done.output
    assert weights.stem in done.stdout


def test_deterministic_certifiers_take_no_noise(data: str, tmp_path: Path) -> None:
    found = certify(data, tmp_path, sigma=(), certifier="linear:norm=l2")
    assert found.table["wrong"].sum() + found.table["certified"].sum() == 100
    with pytest.raises(UsageError, match="draws no noise"):
        certify(data, tmp_path, certifier="linear")
    with pytest.raises(UsageError, match="given twice"):
        certify(data, tmp_path, certifier="smoothing:sigma=1")


def test_ranges() -> None:
    assert numbers("0:2:0.25", "--radii") == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert numbers("8/255,0.5", "--radii") == [8 / 255, 0.5]
    for text in ("0:2", "2:0:0.1", "0:1:0"):
        with pytest.raises(UsageError, match="--radii"):
            numbers(text, "--radii")
