"""Shared by all tests: a cache of their own, so that no test reads or fills the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that ROBUSTKIT_DATA names; the test is skipped where it names none."""
    folder = os.environ.get("ROBUSTKIT_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data; ROBUSTKIT_DATA names no folder")
    return Path(folder)
