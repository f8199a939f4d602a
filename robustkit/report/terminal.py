"""The table in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustkit.report.format import FAILED

_TEXTS = ("defense", "seed", "flags", "status")


def show(shown: pd.DataFrame, lines: Sequence[str], title: str, console: Console) -> None:
    """Print a readable table with its footer, in the first layout that fits the terminal.

    Nothing is cut off: what is too wide gets its intervals on a second line, loses columns that say nothing, and
    at last is turned, a quantity a row. Names from plugins are text, never markup.
    """
    layouts = list(_layouts(shown))
    chosen = next((layout for layout in layouts if _width(layout) <= console.width), layouts[-1])
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, name in enumerate(chosen.columns):
        left = number == 0 or name in _TEXTS
        table.add_column(Text(str(name)), justify="left" if left else "right", overflow="fold")
    for row in chosen.itertuples(index=False):
        table.add_row(*(_text(str(value)) for value in row))
    console.print(table)
    for line in lines:
        console.print(Text(line, style="red" if line.startswith(FAILED) else "dim"))


def _layouts(shown: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Ways to lay the table out, the widest first."""
    yield shown
    lean = shown[[name for name in shown.columns if not _says_nothing(shown, str(name))]]
    yield lean
    yield _two_lines(lean)
    models = [
        " ".join(str(part) for part in (row.get("defense"), row.get("seed")) if part is not None)
        for row in lean.to_dict("records")
    ]
    turned = lean.drop(columns=[name for name in ("defense", "seed") if name in lean]).T
    turned = turned.set_axis(pd.Index(models), axis="columns").reset_index(names="")
    yield turned
    yield _two_lines(turned)


def _two_lines(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda text: str(text).replace(" [", "\n["))


def _width(table: pd.DataFrame) -> int:
    """Characters a line takes; headers may break between words."""
    columns = (table.iloc[:, place] for place in range(table.shape[1]))
    cells = [[*str(column.name).split(), *"\n".join(map(str, column)).split("\n")] for column in columns]
    return sum(max(map(len, words), default=0) + 2 for words in cells) + 2


def _text(value: str) -> Text:
    failed = value == FAILED or value.endswith("failed")
    return Text(value, style="bold red" if failed else "")


def _says_nothing(shown: pd.DataFrame, name: str) -> bool:
    """Whether every model has the same uninteresting value, which need not be shown where room is scarce."""
    return name in ("flags", "violations", "status", "ASR", "training s") and set(map(str, shown[name])) <= {
        "0",
        "ok",
        "–",
    }
