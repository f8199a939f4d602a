"""`robustkit list` in every format."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from robustkit.hookspecs import KINDS
from robustkit.host import Host

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def built_in() -> Host:
    return Host(discover=False)


def test_piped_it_is_markdown_with_every_entry_and_nothing_cut(run: Run, built_in: Host) -> None:
    lines = run("list").stdout.splitlines()
    assert lines[:2] == ["| name | kind | summary |", "| --- | --- | --- |"]
    entries = [r.entry for kind in KINDS for r in built_in.entries(kind)]
    assert lines[2:] == [f"| {e.name} | {e.kind} | {e.summary} |" for e in entries]


@pytest.mark.parametrize("word", ["attack", "attacks"])
def test_one_kind_has_columns_of_its_own(run: Run, word: str) -> None:
    lines = run("list", word).stdout.splitlines()
    assert lines[0] == "| name | norms | knowledge | goal | targeted | summary |"
    assert any(line.startswith("| pgd | l1, l2, linf | white-box | budget | yes |") for line in lines)


def test_json_holds_every_field(run: Run) -> None:
    rows = json.loads(run("list", "--format", "json", cases=("success",), plugins="good").stdout)
    (sign,) = [row for row in rows if row["name"] == "good.sign"]
    assert sign == {
        "name": "good.sign",
        "kind": "attack",
        "qualified": "good.sign",
        "distribution": "robustkit-good",
        "version": "1.0",
        "target": "good_parts:Sign",
        "summary": "One step.",
        "paper": "",
        "needs": "",
        "notes": "",
        "norms": ["linf"],
        "knowledge": "white-box",
        "goal": "budget",
        "targeted": False,
        "deterministic": False,
    }


def test_csv_reads_back(run: Run, built_in: Host) -> None:
    rows = list(csv.DictReader(io.StringIO(run("list", "models", "-f", "csv").stdout)))
    assert [row["name"] for row in rows] == [r.entry.name for r in built_in.entries("model")]
    assert [row["summary"] for row in rows] == [r.entry.summary for r in built_in.entries("model")]


def test_a_table_that_is_piped_is_as_wide_as_it_must_be(run: Run, built_in: Host) -> None:
    out = run("list", "attacks", "--format", "table").stdout
    for registered in built_in.entries("attack"):
        assert any(registered.entry.summary in line for line in out.splitlines())


def test_a_terminal_gets_a_table_whose_names_are_whole(built_in: Host) -> None:
    out = on_a_terminal("list", "attacks")
    assert "| ---" not in out
    for registered in built_in.entries("attack"):
        assert any(line.split()[:1] == [registered.entry.name] for line in out.splitlines())


def on_a_terminal(*arguments: str, columns: int = 80) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "ROBUSTKIT_PLUGINS": "", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "robustkit", *arguments]
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                read = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not read:
                break
            text += read
    os.close(ours)
    assert process.returncode == 0
    return text.decode()
