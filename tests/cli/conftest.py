"""Runs the command in a process of its own, as a shell does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

CASES = Path(__file__).parent.parent / "data" / "host_plugins"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run() -> Run:
    """`run("list", "attacks", cases=("success",))`: without cases, and without `plugins`, only what is built in."""

    def call(
        *arguments: str, cases: tuple[str, ...] = (), plugins: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(CASES / case) for case in cases),
            "ROBUSTKIT_PLUGINS": plugins,
            **(env or {}),
        }
        command = [sys.executable, "-W", "error", "-m", "robustkit", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    return call
