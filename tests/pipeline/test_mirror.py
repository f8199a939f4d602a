"""Run directories behind URLs: in memory, and in an object store of files that several processes share."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from typer.testing import CliRunner

from robustkit.api import BenchResult, load, run_plan
from robustkit.cli.app import app
from robustkit.executors.local import LocalExecutor
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.pipeline import lease
from robustkit.pipeline.events import BlockDone, Spent
from robustkit.pipeline.parquet import encoded
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import RunStore
from tests.pipeline import objects
from tests.pipeline.fleet import assert_same, bench, installed, marks, outcome

__all__ = ["installed", "marks", "objects"]  # fixtures, and a file system that is registered

FS = fsspec.filesystem("memory")


@pytest.fixture
def url() -> Iterator[str]:
    made = f"memory://{uuid4().hex}"
    yield made
    if FS.exists(made):
        FS.rm(made, recursive=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.2)


def names(url: str) -> set[str]:
    """Of all files behind a URL, from the URL on."""
    root = FS._strip_protocol(url)
    return {name[len(root) + 1 :] for name in FS.find(url)}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}


def same(one: BenchResult, other: BenchResult) -> bool:
    """Tables without times."""
    columns = [name for name in one.table.columns if "seconds" not in name]
    return len(columns) > 10 and one.table[columns].equals(other.table[columns])


def test_a_run_behind_a_url_is_the_one_of_a_folder(
    url: str, spec: Callable[..., BenchSpec], host: Host, tmp_path: Path
) -> None:
    plan = make_plan(spec(), host)
    local, remote = (run_plan(plan, place, host) for place in (tmp_path / "run", url))
    assert (local.place, remote.place) == (str(tmp_path / "run"), url)
    assert same(remote, local)
    assert names(url) >= {name for name in files(tmp_path / "run") if "events.out" not in name}  # those have times
    assert not any(name.startswith((".", "blocks/", "shared/")) for name in names(url))
    remote.report()
    assert {"report.html"} <= names(url)
    copy = remote.directory
    assert copy is not None
    assert FS.cat_file(f"{url}/report.html") == (copy / "report.html").read_bytes()
    again = load(url)
    assert same(again, local)
    assert again.model("fgsm_at").state_dict().keys() == local.model("fgsm_at").state_dict().keys()
    key = again.records[-1]["key"]
    assert np.array_equal(again.samples[key]["success"], local.samples[key]["success"])
    with pytest.raises(UsageError, match="holds no records"):
        load(f"{url}-absent")
    for words in (["report", url], ["report", url, "--html"], ["compare", url, str(tmp_path / "run")]):
        said = CliRunner().invoke(app, words)
        assert said.exit_code == 0, said.output
        assert "--html" not in words or f"{url}/report.html" in said.output


def test_a_budget_is_spent_behind_a_url(url: str, spec: Callable[..., BenchSpec], host: Host) -> None:
    plan = make_plan(spec(budget=60.0, attacks=("fgsm", "bim:steps=3")), host)
    first = run_plan(plan, url, host)
    assert first.ok
    blocks = {name for name in names(url) if name.startswith("blocks/")}
    assert blocks  # those of a budget stay
    assert "tables/anytime.csv" in names(url)
    events: list[Any] = []
    assert same(run_plan(plan, url, host, events.append), first)
    assert not any(isinstance(event, Spent) for event in events)  # all is read off the blocks


def test_the_command_takes_a_url(tiny: str, url: str) -> None:
    words = ["bench", "--attacks", "fgsm", "--dataset", tiny, "--model", "linear", "--epochs", "1", "--eps", "0.1"]
    said = CliRunner().invoke(app, [*words, "-o", url])
    assert said.exit_code == 0, said.output
    assert f"report: {url}/report.html" in said.output
    assert f"run directory: {url}" in said.output
    assert names(url) >= {"report.html", "tables/comparison.md", "tables/cells.csv", "records.jsonl"}
    assert ".lock" not in names(url)
    refused = CliRunner().invoke(app, [*words, "-o", "s3://bucket/table.md"])
    assert "a URL is a run directory" in f"{refused.exception}{refused.output}"
    refused = CliRunner().invoke(app, ["train", "--defense", "standard", "-o", "s3://bucket/x"])
    assert "only a bench keeps its run behind a URL" in f"{refused.exception}{refused.output}"


def test_what_was_interrupted_goes_on_from_another_copy(
    url: str, spec: Callable[..., BenchSpec], host: Host, tmp_path: Path
) -> None:
    plan = make_plan(spec(), host)
    done: list[tuple[str, str]] = []

    def stop(event: Any) -> None:
        if isinstance(event, BlockDone):
            done.append((event.cell.subject.label, event.cell.label))
            if done.count(("fgsm_at", "pgd:steps=5")) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, url, host, stop)
    left = {name for name in names(url) if name.startswith("blocks/")}
    assert len(left) == 2
    assert ".lock" not in names(url)
    FS.rm(f"{url}/models", recursive=True)  # the cache has them
    before = {name: FS.info(f"{url}/{name}")["created"] for name in left}
    measured: list[Any] = []
    store = RunStore(url)
    assert not any(store.directory.iterdir())  # another copy than the first one's
    result = run_plan(plan, url, host, lambda event: measured.append(event))
    assert len(before) == 2
    assert [e.done for e in measured if isinstance(e, BlockDone)] == [1, 2, 3]  # the two are read, one is measured
    whole = run_plan(plan, tmp_path / "whole", host)
    assert same(result, whole)
    assert not {name for name in names(url) if name.startswith("blocks/")}


def test_blocks_are_listed_and_fetched_when_asked_for(url: str) -> None:
    content = encoded({"index": np.arange(3)}, {"seconds": 1.0})
    store = RunStore(url)
    store.open()
    for number in (0, 3):
        store.write_block("cell", number, content)
    store.close()
    other = RunStore(url)
    other.open()
    assert other.blocks("cell") == {0, 3}
    assert not (other.directory / "blocks").exists()
    found = other.block("cell", 3)
    assert found is not None
    assert found[0]["index"].tolist() == [0, 1, 2]
    assert other.block("cell", 1) is None
    other.forget("cell")
    assert other.blocks("cell") == set()
    assert other.block("cell", 0) is None
    assert not {name for name in names(url) if name.startswith("blocks/")}
    other.close()


def test_a_run_is_for_one_process_at_a_time(url: str, quick: None) -> None:
    store = RunStore(url)
    store.open()
    began = time.monotonic()
    with pytest.raises(UsageError, match=rf"another process is at work in {url} \(process \d+ of .*since 20"):
        RunStore(url).open()
    assert time.monotonic() - began < 5
    store.close()
    other = RunStore(url)
    other.open()
    other.close()
    assert names(url) == set()


def test_a_dead_drivers_place_is_taken(url: str, quick: None) -> None:
    gone = {"host": "elsewhere", "pid": 1, "since": "2020", "token": "x", "beat": 7}
    FS.pipe_file(f"{url}/.lock", json.dumps(gone).encode())
    began = time.monotonic()
    store = RunStore(url)
    store.open()
    assert 0.6 < time.monotonic() - began < 5
    store.close()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    FS.pipe_file(f"{url}/.lock", json.dumps({**gone, "host": platform.node(), "pid": ended.pid}).encode())
    began = time.monotonic()
    store.open()
    assert time.monotonic() - began < 0.5  # a process of this machine that is no more need not be watched
    store.close()


@pytest.mark.parametrize("how", ["taken", "removed"])
def test_a_driver_that_was_given_up_stops_writing(url: str, quick: None, how: str) -> None:
    store = RunStore(url)
    store.open()
    store.write("spec.toml", "x = 1\n")
    if how == "taken":
        other = {"host": "elsewhere", "pid": 17, "since": "2020", "token": "x", "beat": 0}
        FS.pipe_file(f"{url}/.lock", json.dumps(other).encode())
    else:
        FS.rm_file(f"{url}/.lock")
    time.sleep(1.0)
    with pytest.raises(UsageError, match=f"no longer this process's: its lock was {how}"):
        store.write("spec.toml", "x = 2\n")
    with pytest.raises(UsageError, match="no longer this process's"):
        store.close()
    assert FS.cat_file(f"{url}/spec.toml") == b"x = 1\n"
    assert (how == "taken") == FS.exists(f"{url}/.lock")


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Protocol not known: nowhere"):
        RunStore("nowhere://x")
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(UsageError, match="cannot be written"):
        RunStore(f"zip://run::{tmp_path / 'a.zip'}").open()
    with pytest.raises(UsageError, match="only a bench keeps its run behind a URL"):
        RunStore(Path("s3://bucket/run"))
    assert RunStore(f"file://{tmp_path / 'run'}").directory == tmp_path / "run"
    assert RunStore(f"file://{tmp_path / 'run'}").mirror is None


def test_workers_numbers_come_behind_the_url(tiny: str, url: str, tmp_path: Path, marks: Path) -> None:
    attacks = ("fgsm", "fleet.noise")
    whole = bench(tiny, tmp_path / "whole", None, attacks)
    assert_same(whole, bench(tiny, url, LocalExecutor(2), attacks))
    kept = load(url)
    assert [record["status"] for record in kept.records] == ["ok"] * 3


def test_a_driver_killed_and_started_again_and_a_second_one_refused(tiny: str, tmp_path: Path, marks: Path) -> None:
    place = tmp_path / "store" / "run"
    url, attacks = f"objects://{place}", ("fleet.noise:pause=0.5", "fleet.noise:pause=0.6")
    words = [sys.executable, str(Path(__file__).with_name("mirror_driver.py")), tiny, url, *attacks]
    driver = subprocess.Popen(words)
    began = time.monotonic()
    while not list(place.glob("blocks/*/00001.parquet")):
        assert driver.poll() is None
        assert time.monotonic() - began < 300
        time.sleep(0.02)
    with pytest.raises(UsageError, match="another process is at work in objects://"):
        RunStore(url).open()
    driver.kill()
    driver.wait()
    assert (place / ".lock").is_file()
    before = len((marks / "noise").read_text().split())
    found = bench(tiny, url, None, attacks)
    again = len((marks / "noise").read_text().split()) - before
    assert before + again <= 6 + 1  # six blocks, and the one that was at work
    assert_same(bench(tiny, tmp_path / "whole", None, attacks), found)
    assert_same(outcome(RunStore(place)), found)  # what lies there is a run directory as any other
    assert not (place / ".lock").exists()
