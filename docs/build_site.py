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
    """Pages of docs/ and docs/images as they are, benchmarks/results as results/."""
    shutil.rmtree(LAID, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "images", LAID / "images")
    docs, results = ROOT / "docs", ROOT / "benchmarks" / "results"
    for page in docs.rglob("*.md"):
        target = LAID / page.relative_to(docs)
        target.parent.mkdir(parents=True, exist_ok=True)
        # what lies two folders from a page in the repository is one nearer on the site
        text = page.read_text(encoding="utf-8").replace("](../benchmarks/results/", "](results/")
        target.write_text(text.replace("](../../benchmarks/results/", "](../results/"), encoding="utf-8")
    for file in results.rglob("*"):
        if file.suffix in {".md", ".svg", ".png"}:
            target = LAID / "results" / file.relative_to(results)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def main() -> int:
    lay()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
