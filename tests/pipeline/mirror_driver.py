"""Run by test_mirror.py: a bench whose run directory is behind a URL. Arguments: data, URL, attacks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import tests.pipeline.objects  # noqa: F401 - registers the object store
from robustkit.params import UsageError
from robustkit.pipeline import lease
from tests.pipeline.fleet import bench

if __name__ == "__main__":
    lease.BEAT = 0.5
    try:
        bench(sys.argv[1], sys.argv[2], None, tuple(sys.argv[3:]))
    except UsageError as error:
        print(error)
        sys.exit(3)
