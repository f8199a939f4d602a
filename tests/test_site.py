"""The docs site builds offline and strictly, and a link that leads nowhere would be noticed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="zensical is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the site is made of, so that nothing is written into the repository."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    shutil.copytree(ROOT / "robustkit", tmp_path / "robustkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "mkdocs.yml", tmp_path / "mkdocs.yml")
    return tmp_path


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "docs" / "build_site.py")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def test_it_builds_without_a_warning_and_fetches_nothing(checkout: Path) -> None:
    done = build(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (checkout / "build" / "site" / "api.html").read_text(encoding="utf-8")
    assert "robustkit.api" in page
    assert "float32 (N, C, H, W) in [0, 1]" in page  # of a docstring
    loaded = [part for part in page.split('src="')[1:] if part.startswith(("http:", "https:", "//"))]
    assert loaded == []


def test_every_page_stands_in_the_navigation(checkout: Path) -> None:
    said = (checkout / "mkdocs.yml").read_text(encoding="utf-8")
    docs, measured = checkout / "docs", checkout / "benchmarks" / "results"
    pages = [page.relative_to(docs).as_posix() for page in docs.rglob("*.md")]
    results = [f"results/{page.relative_to(measured).as_posix()}" for page in measured.rglob("*.md")]
    assert [page for page in (*pages, *results) if f": {page}\n" not in said] == []


def test_a_link_that_leads_nowhere_stops_the_build(checkout: Path) -> None:
    with (checkout / "docs" / "tutorial.md").open("a", encoding="utf-8") as page:
        page.write("\n[gone](no-such-page.md)\n")
    assert build(checkout).returncode != 0
