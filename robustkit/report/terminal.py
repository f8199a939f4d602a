"""The table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustkit.report.format import FAILED


def show(shown: pd.DataFrame, lines: Sequence[str], title: str, console: Console) -> None:
    """Print a readable table with its footer; names from plugins are text, never markup."""
    table = Table(title=Text(title), title_justify="left", header_style="bold", expand=False)
    narrow = sum(len(str(name)) for name in shown.columns) + 8 * len(shown.columns) > console.width
    dropped = [name for name in ("training s", "violations", "status") if narrow and _dull(shown, name)]
    names = [name for name in shown.columns if name not in dropped]
    for name in names:
        left = name in ("defense", "seed", "status")
        table.add_column(Text(str(name)), justify="left" if left else "right", overflow="fold")
    for _, row in shown.iterrows():
        cells = []
        for name in names:
            value = str(row[name])
            if console.width < 100 or narrow:
                value = value.replace(" [", "\n[")
            style = "bold red" if value == FAILED or "failed" in value else ""
            cells.append(Text(value, style=style))
        table.add_row(*cells)
    console.print(table)
    for line in lines:
        style = "red" if line.startswith("error") else "dim"
        console.print(Text(line, style=style))


def _dull(shown: pd.DataFrame, name: str) -> bool:
    """Whether a column says nothing that a narrow terminal must show."""
    return (name in shown.columns and set(map(str, shown[name])) <= {"0", "ok", "–"}) or name == "training s"
