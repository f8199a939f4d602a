"""`robustkit plugins` and `robustkit plugins check`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from robustkit import testing
from robustkit.cli import app as application

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_working_and_broken_plugins_are_told_apart(run: Run) -> None:
    done = run("plugins", "-f", "json", cases=("success", "hook_raises", "sys_exit"), plugins="good,hook_raises,exits")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert [(r["plugin"], r["status"], r["stage"]) for r in rows] == [
        ("robustkit", "ok", ""),
        ("good", "ok", ""),
        ("hook_raises", "ok", ""),
        ("exits", "broken", "import"),
        ("hook_raises", "broken", "robustkit_attacks"),
    ]
    good = next(r for r in rows if r["plugin"] == "good")
    assert (good["distribution"], good["version"], good["entries"]) == ("robustkit-good", "1.0", 2)
    assert rows[3]["error"].startswith("SystemExit: no licence found")


def test_piped_it_is_markdown(run: Run) -> None:
    lines = run("plugins", cases=("old_requirement",), plugins="old").stdout.splitlines()
    assert lines[0] == "| plugin | status | distribution | version | entries | stage | error |"
    assert lines[3].startswith("| old | broken | robustkit-old | 1.0 |  | requirement | built for robustkit <0.1")


def outcome(status: str, reason: str = "") -> testing.Outcome:
    check = testing.Check(provider="mine", entry="sign", norm="linf", name="ball_and_box", body=lambda: None)
    return testing.Outcome(check=check, status=status, reason=reason, seconds=0.25)  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "code"), [("passed", 0), ("failed", 1), ("expected failure", 0)])
def test_check_runs_the_kit_and_exits_by_its_outcome(monkeypatch: pytest.MonkeyPatch, status: str, code: int) -> None:
    monkeypatch.setattr(testing, "run", lambda name: iter([outcome("passed"), outcome(status, "leaves\nthe ball")]))
    done = CliRunner().invoke(application.app, ["plugins", "check", "mine"])
    assert done.exit_code == code
    assert "mine.sign-linf-ball_and_box  0.25 s  leaves the ball" in done.stdout
    assert f"{2 - code} of 2 checks hold" in done.stderr


def test_check_of_an_unknown_plugin_is_a_usage_error(run: Run) -> None:
    done = run("plugins", "check", "nobody")
    assert done.returncode == 2
    assert "no plugin 'nobody' is installed" in done.stderr
