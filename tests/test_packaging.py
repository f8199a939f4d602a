"""The wheel and the sdist build, and install and run in a fresh virtual environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from a clean copy of the tracked tree."""
    source = tmp_path_factory.mktemp("source") / "robustkit"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".venv", ".git", "runs", "plugins", "__pycache__", ".*_cache", ".hypothesis"),
    )
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return out


def test_the_wheel_holds_the_package_its_types_and_the_embedded_data(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "robustkit/py.typed" in names
    assert any(name.startswith("robustkit/data/mnist_10k.") and not name.endswith(".py") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


def test_the_sdist_holds_the_tests(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert any(name.endswith("tests/test_packaging.py") for name in names)
    assert any(name.endswith("robustkit/py.typed") for name in names)


@pytest.mark.slow
def test_wheel_and_sdist_run_in_a_fresh_environment(built: Path, tmp_path: Path) -> None:
    """Everything is installed from the package index, as a user's pip does."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    install = [str(python), "-m", "pip", "install", "--quiet", *constraints]
    try:
        subprocess.run([*install, str(wheel)], check=True, capture_output=True, text=True)
        assert _runs(python, tmp_path)
        again = [*install, "--force-reinstall", "--no-deps", str(sdist)]
        subprocess.run(again, check=True, capture_output=True, text=True)
        assert _runs(python, tmp_path)
        subprocess.run([*install, str(_template(tmp_path))], check=True, capture_output=True, text=True)
        _third_party_works(python, tmp_path)
    finally:
        shutil.rmtree(environment)  # several GB


def _template(folder: Path) -> Path:
    """The wheel of the plugin that third parties copy."""
    source = folder / "template"
    shutil.copytree(ROOT / "plugins" / "template", source, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("robustkit_template-*.whl")
    return wheel


def _third_party_works(python: Path, folder: Path) -> None:
    """The template's attack stands in the list, in a bench's table and in the shell's completion."""
    script = str(python.parent / "robustkit")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean |= {"ROBUSTKIT_CACHE": str(folder / "cache")}

    def said(*words: str, **extra: str) -> str:
        done = subprocess.run(
            [script, *words], check=True, capture_output=True, text=True, cwd=folder, env=clean | extra
        )
        return done.stdout

    assert "template.onestep" in said("list", "attacks")
    small = ["--model", "linear", "--epochs", "1", "--limit", "50"]
    assert "template.onestep" in said("bench", "--attacks", "template.onestep", "--defense", "template.blur", *small)
    asked = {"COMP_WORDS": "robustkit bench --attacks templ", "COMP_CWORD": "3", "_ROBUSTKIT_COMPLETE": "complete_bash"}
    assert "template.onestep" in said(**asked).split()


def _runs(python: Path, folder: Path) -> bool:
    """Import, list and load the embedded data with nothing but the installed distribution."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = (
        "from robustkit.data.load import load_data\n"
        "from robustkit.host import default_host\n"
        "print(len(load_data('mnist_10k', host=default_host()).test))"
    )
    loaded = subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True, cwd=folder, env=clean
    )
    listed = subprocess.run(
        [str(python), "-m", "robustkit", "list", "attacks"],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=clean,
    )
    return loaded.stdout.strip() == "2000" and "pgd" in listed.stdout
