"""Plugins with one fault each, written to disk so that they are found and imported like real ones."""

from __future__ import annotations

import importlib
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

_numbers = itertools.count()

ROWS = """
from robustkit.hookspecs import {entry}, hookimpl

@hookimpl
def robustkit_{kind}s():
    yield {entry}(name="thing", target="{name}.components:Thing", summary="A thing.", {facts})
"""


@pytest.fixture
def write_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """`write_plugin(components, facts=..., kind=..., rows=...)` → the plugin's module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(components: str, facts: str = "", kind: str = "attack", rows: str = "", **files: str) -> ModuleType:
        name = f"robustkit_flawed_{next(_numbers)}"
        names.append(name)
        folder = tmp_path / name
        folder.mkdir()
        text = ROWS.format(entry=f"{kind.title()}Entry", kind=kind, name=name, facts=facts)
        (folder / "__init__.py").write_text(text + textwrap.dedent(rows))
        (folder / "components.py").write_text(textwrap.dedent(components))
        for file, body in files.items():
            (folder / f"{file}.py").write_text(textwrap.dedent(body))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]
