"""Run by the tests of executors as a process of its own: a bench on two workers. EXECUTOR TINY DIRECTORY ATTACK ..."""

from __future__ import annotations

import sys
from pathlib import Path

from robustkit.executors.local import LocalExecutor
from robustkit.executors.ray import RayExecutor
from tests.pipeline.fleet import bench

if __name__ == "__main__":
    kind, tiny, directory, *attacks = sys.argv[1:]
    name, _, address = kind.partition(":")
    bench(tiny, Path(directory), LocalExecutor(2) if name == "local" else RayExecutor(address, 2), tuple(attacks))
