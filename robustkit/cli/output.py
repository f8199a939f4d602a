"""Rows to the terminal: a table for people, markdown when piped, json and csv for programs. Nothing is truncated."""

from __future__ import annotations

import csv
import enum
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

Row = Mapping[str, Any]


class Format(enum.StrEnum):
    table = "table"
    markdown = "markdown"
    json = "json"
    csv = "csv"


FormatOption = Annotated[
    Format | None,
    typer.Option("--format", "-f", help="Default: table on a terminal, markdown when piped.", show_default=False),
]


def show(rows: Sequence[Row], columns: Sequence[str], format: Format | None = None) -> None:
    """Write rows to stdout.

    Args:
        rows: one mapping a row; json and csv write all keys of them.
        columns: the keys that a table or markdown shows, in order.
        format: None chooses by where stdout goes.
    """
    chosen = format or (Format.table if sys.stdout.isatty() else Format.markdown)
    if chosen is Format.table:
        _rich_table(rows, columns)
    else:
        typer.echo(render(rows, columns, chosen))


def render(rows: Sequence[Row], columns: Sequence[str], format: Format) -> str:
    """Rows as text in any format but `table`, which depends on the terminal."""
    if format is Format.json:
        return json.dumps([{key: _plain(value) for key, value in row.items()} for row in rows], indent=2)
    if format is Format.csv:
        return _csv(rows, columns)
    return _markdown(rows, columns)


def cell(value: Any) -> str:
    """A value in words: yes and no, lists by comma, nothing for None; an entry's empty set means "any"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset | set | list | tuple):
        return ", ".join(map(str, _plain(value))) or ("any" if isinstance(value, frozenset) else "")
    return "" if value is None else str(value)


def _markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    lines = [columns, ["---"] * len(columns), *([cell(row.get(key)) for key in columns] for row in rows)]
    return "\n".join("| " + " | ".join(_one_line(text) for text in line) + " |" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    keys = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows([cell(row.get(key)) for key in keys] for row in rows)
    return buffer.getvalue().rstrip("\n")


def _rich_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, key in enumerate(columns):
        # the first column is what a user copies and is never broken; the last holds sentences and needs room
        last = number == len(columns) - 1
        table.add_column(key, overflow="fold", no_wrap=number == 0, min_width=28 if last else None)
    for row in rows:
        table.add_row(*(Text(cell(row.get(key))) for key in columns))
    # where no terminal sets a width, nothing has to be folded
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset | set):
        return sorted(value, key=str)
    return list(value) if isinstance(value, tuple) else value
