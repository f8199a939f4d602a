"""The command as a whole: exit codes, global options, one message an error, and nothing heavy at the start."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robustkit.cli import app as application

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HEAVY = {"torch", "numpy", "pandas", "scipy", "matplotlib", "pyarrow", "torchvision", "torchattacks", "foolbox", "art"}


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "attacks"], ["plugins"], ["list", "--help"]])
def test_starting_imports_nothing_heavy(arguments: list[str]) -> None:
    """With all plugins that are installed here, wrapped libraries included."""
    code = (
        "import json, sys\n"
        "from robustkit.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as done:\n    code = done.code\n"
        "print(json.dumps([code or 0, sorted({name.partition('.')[0] for name in sys.modules})]), file=sys.stderr)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROBUSTKIT")}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout
    exit_code, modules = json.loads(done.stderr.strip().splitlines()[-1])
    assert exit_code == 0
    assert "pluggy" in modules
    assert HEAVY.isdisjoint(modules), HEAVY & set(modules)


def test_importing_the_package_is_light_and_its_names_are_there() -> None:
    code = (
        "import json, sys, robustkit\n"
        "print(json.dumps([sorted(sys.modules), dir(robustkit), robustkit.__all__, robustkit.__version__]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, listed, public, version = json.loads(done.stdout)
    assert HEAVY.isdisjoint(modules)
    assert set(public) <= set(listed)
    assert {"bench", "evaluate", "train", "load", "Threat", "AttackEntry", "hookimpl"} <= set(public)
    assert version == metadata.version("robustkit")


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import robustkit

    with pytest.raises(AttributeError, match="module 'robustkit' has no attribute 'nothing'"):
        _ = robustkit.nothing  # type: ignore[attr-defined]


def test_the_version_is_the_installed_one(run: Run) -> None:
    assert run("--version").stdout.strip() == f"robustkit {metadata.version('robustkit')}"


@pytest.mark.parametrize("name", sorted(application.COMMANDS))
def test_every_command_has_help_and_is_named_in_the_outer_one(name: str) -> None:
    outer = CliRunner().invoke(application.app, ["--help"])
    inner = CliRunner().invoke(application.app, [name, "--help"])
    assert (outer.exit_code, inner.exit_code) == (0, 0)
    assert any(line.split()[:1] == [name] for line in outer.output.splitlines())
    assert f"Usage: robustkit {name}" in inner.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lis"], "Error: there is no command 'lis'; did you mean list"),
        (["list", "atacks"], "Error: there is no kind 'atacks'; did you mean attacks"),
        (["list", "--format", "xml"], "xml"),
        (["info", "pdg"], "Error: nothing is called 'pdg'; did you mean pgd"),
        (["info"], "Missing argument"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_usage_errors_exit_with_2_and_say_what_to_do(run: Run, arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_usage_error_is_one_line(run: Run) -> None:
    assert run("info", "pdg").stderr.count("\n") == 1


def test_plugins_are_left_out_wherever_the_option_stands(run: Run) -> None:
    for arguments in (["--no-plugins", "list"], ["list", "--no-plugins"], ["list", "attacks", "--no-plugins"]):
        done = run(*arguments, cases=("success", "sys_exit"), plugins="good,exits")
        assert done.returncode == 0
        assert "good." not in done.stdout
        assert done.stderr == ""


def test_broken_plugins_are_one_line_on_stderr_and_break_nothing(run: Run) -> None:
    done = run("list", cases=("success", "sys_exit"), plugins="good,exits")
    assert (done.returncode, done.stderr) == (0, "1 plugin failed to load; see robustkit plugins\n")
    assert "| good.sign |" in done.stdout
    done = run("list", "models", cases=("hook_raises", "sys_exit"), plugins="hook_raises,exits")
    assert (done.returncode, done.stderr) == (0, "2 plugins failed to load; see robustkit plugins\n")


@pytest.mark.parametrize(
    ("arguments", "env", "code"),
    [
        (["--strict-plugins", "list"], {}, 2),
        (["info", "good.sign", "--strict-plugins"], {}, 2),
        (["plugins"], {"ROBUSTKIT_STRICT_PLUGINS": "1"}, 2),
        (["list"], {"ROBUSTKIT_STRICT_PLUGINS": "0"}, 0),
    ],
)
def test_strict_plugins_exit_with_2(run: Run, arguments: list[str], env: dict[str, str], code: int) -> None:
    done = run(*arguments, cases=("success", "sys_exit"), plugins="good,exits", env=env)
    assert done.returncode == code
    assert "1 plugin failed to load" in done.stderr
    assert ("(exits)" in done.stderr) == (code == 2)


def test_strict_plugins_do_not_mind_working_ones(run: Run) -> None:
    assert run("list", "--strict-plugins", cases=("success",), plugins="good").returncode == 0


def test_an_interrupt_exits_with_130(tmp_path: Path) -> None:
    """A real SIGINT, in the middle of a command."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom robustkit import hookimpl\n\n\n@hookimpl\ndef robustkit_attacks():\n"
        "    open('started', 'w').close()\n    time.sleep(60)\n    return []\n"
    )
    info = tmp_path / "slow-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[robustkit]\nslow = slow\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ROBUSTKIT_PLUGINS": "slow"}
    command = [sys.executable, "-m", "robustkit", "list"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(600):
            if (tmp_path / "started").exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted\n"


def test_a_row_is_all_that_a_command_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a_command.py").write_text(
        "import typer\nfrom robustkit.params import UsageError\n\n\n"
        'def gate(limit: int = 3) -> None:\n    """Trip at 3."""\n'
        "    if limit > 3:\n        raise UsageError('limit is at most 3')\n"
        "    if limit == 3:\n        raise typer.Exit(1)\n    print(limit)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(application.COMMANDS, "gate", "a_command:gate")
    runner = CliRunner()
    assert "gate     Trip at 3." in runner.invoke(application.app, ["--help"]).output
    assert runner.invoke(application.app, ["gate", "--limit", "2"]).output == "2\n"
    assert runner.invoke(application.app, ["gate"]).exit_code == 1
    refused = runner.invoke(application.app, ["gate", "--limit", "4"])
    assert (refused.exit_code, refused.stderr) == (2, "Error: limit is at most 3\n")
    sys.modules.pop("a_command")


def test_rows_point_to_what_exists() -> None:
    for target in application.COMMANDS.values():
        module, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, typer.Typer) or callable(found)
