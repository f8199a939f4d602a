"""What a study returns, and the folder it is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from robustkit.files import write_atomically
from robustkit.report.drawing import Drawing, save
from robustkit.report.files import markdown


@dataclass(frozen=True)
class Study:
    """An answer.

    Args:
        name: of the study.
        title: the question.
        text: what is seen, paragraphs that follow from the numbers.
        tables: by name, numbers.
        drawings: figures with their data.
        files: further files by name, e.g. an animated GIF.
    """

    name: str
    title: str
    text: Sequence[str]
    tables: Mapping[str, pd.DataFrame]
    drawings: Sequence[Drawing]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        """Text and tables in markdown."""
        parts = [f"# {self.title}", *self.text]
        for name, table in self.tables.items():
            parts.append(f"## {name}\n\n{markdown(table.map(_cell))}".rstrip())
        return "\n\n".join(parts) + "\n"

    def write(self, directory: str | Path) -> Path:
        """Write study.md, tables/NAME.csv, figures/NAME.{svg,pdf,png,csv} and further files; returns study.md."""
        folder = Path(directory)
        save(self.drawings, folder / "figures")
        for name, table in self.tables.items():
            write_atomically(folder / "tables" / f"{name}.csv", table.to_csv(index=False).encode())
        for name, content in self.files.items():
            write_atomically(folder / "figures" / name, content)
        shown = [f"![{drawing.title}](figures/{drawing.name}.png)\n\n{drawing.caption}" for drawing in self.drawings]
        shown += [f"![{name}](figures/{name})" for name in self.files if name.endswith(".gif")]
        page = folder / "study.md"
        write_atomically(page, "\n\n".join([str(self).rstrip(), *shown, ""]).encode())
        return page


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
