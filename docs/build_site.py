"""Builds the docs site into build/site, offline: `python docs/build_site.py`.

Pages of docs/ and measured results are laid side by side first, so that links between them hold on the site as they do
in the repository. A warning of the builder is an error.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAID = ROOT / "build" / "docs"


def lay() -> None:
    """docs/*.md and docs/images as they are, benchmarks/results as results/."""
    shutil.rmtree(LAID, ignore_errors=True)
    (LAID / "results").mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "images", LAID / "images")
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text(encoding="utf-8").replace("](../benchmarks/results/", "](results/")
        (LAID / page.name).write_text(text, encoding="utf-8")
    for file in (ROOT / "benchmarks" / "results").iterdir():
        if file.suffix in {".md", ".svg", ".png"}:
            shutil.copyfile(file, LAID / "results" / file.name)


def main() -> int:
    lay()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
