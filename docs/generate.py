"""Writes the pages under docs/ that come from the code: the catalogue of entries and the command line.

`python docs/generate.py` renews them; `python docs/generate.py --check` exits with 1 where one is stale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import typer

from robustkit.cli.app import app
from robustkit.hookspecs import KINDS
from robustkit.host import Host
from robustkit.params import describe

DOCS = Path(__file__).parent
HEAD = "<!-- Written by docs/generate.py. Change the code instead, then run: make docs -->\n\n"


def catalogue() -> str:
    """Every built-in entry with its parameters; plugins have pages of their own."""
    host = Host(discover=False)
    out = [
        HEAD + "# Catalogue\n",
        "What RobustKit brings itself. `robustkit list` shows the entries of installed plugins too, "
        "`robustkit info NAME` one of them.\n",
    ]
    for kind in KINDS:
        entries = host.entries(kind)
        if not entries:
            continue
        out.append(f"## {kind.capitalize()}s\n")
        for registered in entries:
            entry = registered.entry
            out.append(f"### `{registered.short}`\n")
            out.append(entry.summary + (f" [Paper]({entry.paper})." if entry.paper else "") + "\n")
            if entry.notes:
                out.append(entry.notes + "\n")
            facts = [
                f"{name}: {_words(getattr(entry, name))}"
                for name in ("norms", "knowledge", "goal", "targeted", "deterministic", "trains", "scope")
                if hasattr(entry, name)
            ]
            if facts:
                out.append("; ".join(facts) + ".\n")
            rows = describe(host.resolve(registered))
            if rows:
                out.append("| parameter | type | default | unit | range | meaning |\n|---|---|---|---|---|---|")
                for row in rows:
                    cells = (f"`{row.name}`", row.type, f"`{row.default}`", row.unit, row.range, row.help)
                    out.append("| " + " | ".join(cell.replace("|", "or") for cell in cells) + " |")
                out.append("")
    return "\n".join(out)


def command_line() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("robustkit", [], resilient_parsing=True)
    out = [HEAD + "# Command line\n", (group.help or "") + "\n", "Options of every command:\n", _options(group)]
    for name in group.list_commands(context):
        command: Any = group.get_command(context, name)
        out += _command(f"robustkit {name}", command)
        for sub in getattr(command, "commands", {}):
            out += _command(f"robustkit {name} {sub}", command.commands[sub])
    out.append("## Exit codes\n")
    out.append(
        "0: all is well. 1: a cell failed, a gate tripped, a check does not hold. 2: usage; the message names the "
        "value and the remedy. 130: interrupted; the same command goes on.\n"
    )
    return "\n".join(out)


def _command(title: str, command: Any) -> list[str]:
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    text = "\n\n".join(
        f"    {part.removeprefix('Example: ')}" if part.startswith("Example: ") else part for part in paragraphs
    )
    return [f"## `{title}`\n", text + "\n", _options(command)]


def _options(command: Any) -> str:
    rows = []
    for parameter in command.params:
        if parameter.name in ("help", "install_completion", "show_completion"):
            continue
        words = ", ".join(f"`{word}`" for word in [*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            words = f"`{(parameter.metavar or parameter.name).upper()}`"
        default = parameter.default
        shown = "" if default in (None, False, "", ()) or callable(default) else f" Default: `{default}`."
        rows.append(f"| {words} | {(getattr(parameter, 'help', None) or '').replace('|', 'or')}{shown} |")
    return "| option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(sorted(value)) or "any" if isinstance(value, frozenset) else str(value)


PAGES = {"catalogue.md": catalogue, "cli.md": command_line}


def stale() -> list[str]:
    """The pages that are not what the code says."""
    return [name for name, make in PAGES.items() if not _same(DOCS / name, make())]


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        for name in stale():
            sys.stderr.write(f"docs/{name} is stale; run: make docs\n")
        return 1 if stale() else 0
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
