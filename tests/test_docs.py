"""Docs are true: generated pages are fresh, links lead somewhere, and what a page says to type works."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)|!\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"^(?:    |\$ )(robustkit .+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_fresh(generate: ModuleType) -> None:
    assert generate.stale() == [], "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for groups in _LINK.findall(page.read_text(encoding="utf-8")):
        target = groups[0] or groups[1]
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_a_page_are_accepted_by_the_command_line(page: Path) -> None:
    """Every `robustkit …` line parses: commands, options and their spelling exist."""
    import typer

    from robustkit.cli.app import app

    group = typer.main.get_command(app)
    for line in _COMMAND.findall(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)[1:]
        name, *arguments = words
        context = group.make_context("robustkit", [], resilient_parsing=True)
        command = group.get_command(context, name)
        assert command is not None, f"{page.name}: robustkit {name} is no command"
        command.make_context(name, list(arguments), parent=context, resilient_parsing=False)
