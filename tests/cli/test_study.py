from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from robustkit.cli.app import app


def test_a_study_is_written_and_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "linear", "--seed", "3", "-o", str(tmp_path / "s")])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# What is the worst case")
    assert (tmp_path / "s" / "figures" / "linear.pdf").is_file()


def test_what_a_study_does_not_take_is_refused() -> None:
    result = CliRunner().invoke(app, ["study", "linear", "--epochs", "3"])
    assert result.exit_code == 2
    assert "linear has no --epochs; it takes seed" in result.stderr
    result = CliRunner().invoke(app, ["study", "linera"])
    assert result.exit_code == 2
    assert "linear" in result.stderr
