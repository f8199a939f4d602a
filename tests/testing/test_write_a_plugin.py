"""docs/write-a-plugin.md and plugins/template: every file and command of theirs works as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write-a-plugin.md").read_text() if (ROOT / "docs").is_dir() else ""
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def _install(project: Path) -> None:
    """What `pip install --editable` leaves behind: metadata with entry points on the path."""
    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    info = project / f"{declared['name'].replace('-', '_')}-{declared['version']}.dist-info"
    info.mkdir()
    requires = "\n".join(f"Requires-Dist: {text}" for text in declared["dependencies"])
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {declared['name']}\nVersion: {declared['version']}\n{requires}\n"
    )
    points = declared["entry-points"]["robustkit"].items()
    (info / "entry_points.txt").write_text("[robustkit]\n" + "".join(f"{k} = {v}\n" for k, v in points))


def _run(command: list[str], project: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, written where it says."""
    folder = tmp_path_factory.mktemp("page") / "robustkit-mine"
    for language, body in BLOCKS:
        if language != "console":
            name = body.partition("\n")[0].removeprefix("# ").strip()
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body)
    _install(folder)
    return folder


def _commands() -> list[str]:
    lines = [line for language, body in BLOCKS if language == "console" for line in body.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def test_the_page_has_files_and_commands(project: Path) -> None:
    assert {"pyproject.toml", "robustkit_mine", "tests"} <= {path.name for path in project.iterdir()}
    assert len(_commands()) >= 6


@pytest.mark.parametrize("command", [c for c in _commands() if not c.startswith("pip ")])
def test_commands_of_the_page(command: str, project: Path) -> None:
    """All but pip, whose effect `_install` has had."""
    said = _run(command.split(), project)
    if command == "robustkit list attacks":
        assert "mine.sign" in said
    if command.startswith("robustkit info"):
        assert "step_size" in said
        assert "eps / 4" in said
    if command == "robustkit plugins":
        assert re.search(r"mine\W+ok\W+robustkit-mine", said)
    if command.startswith("robustkit plugins check"):
        assert "mine.sign-linf-linear_optimum" in said
        assert "failed" not in said
    if command.startswith("pytest"):
        assert re.search(r"\d\d passed", said)


def test_a_plugin_for_another_version_is_listed_as_broken(project: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    for path in project.iterdir():
        if path.name == "pyproject.toml":
            (newer / path.name).write_text(path.read_text().replace(">=0.1,<0.2", ">=7"))
        elif path.is_dir() and path.name == "robustkit_mine":
            (newer / path.name).mkdir()
            for file in path.glob("*.py"):
                (newer / path.name / file.name).write_text(file.read_text())
    _install(newer)
    assert re.search(r"mine\W+broken\W+robustkit-mine.*requirement.*7", _run(["robustkit", "plugins"], newer))


def test_the_template_is_small_and_conforms() -> None:
    folder = ROOT / "plugins" / "template"
    if not folder.is_dir():
        pytest.skip("the template is not part of a source distribution")
    rows = [row for file in (folder / "robustkit_template").glob("*.py") for row in file.read_text().split("\n")]
    lines = [row for row in rows if row.strip()]
    assert len(lines) < 60
    said = _run(["pytest", "-q", "-p", "no:cacheprovider", "tests"], folder)
    assert re.search(r"\d\d passed", said)
