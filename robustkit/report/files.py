"""Tables as files: markdown, csv, json, latex, parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from robustkit.params import UsageError

Format = Literal["table", "markdown", "csv", "json", "latex", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
_SUFFIXES: dict[str, Format] = {
    ".md": "markdown",
    ".csv": "csv",
    ".json": "json",
    ".tex": "latex",
    ".parquet": "parquet",
}
SUFFIXES = tuple(_SUFFIXES)
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
}


def format_of(path: Path) -> Format:
    """The format that a file's suffix asks for.

    Raises:
        UsageError: no format has this suffix.
    """
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise UsageError(f"-o {path}: no format has the suffix {path.suffix!r}; use {', '.join(_SUFFIXES)}")
    return found


def render(kind: Format, table: pd.DataFrame, shown: pd.DataFrame, lines: Sequence[str]) -> bytes:
    """A comparison in one format.

    Args:
        kind: csv, json and parquet hold the numbers, markdown and latex what people read.
        table: numbers.
        shown: the same as texts.
        lines: the footer; in json the field "notes".
    """
    if kind == "csv":
        return table.to_csv(index=False).encode()
    if kind == "json":
        rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
        return (json.dumps({"rows": rows, "notes": list(lines)}, indent=2) + "\n").encode()
    if kind == "parquet":
        sink = io.BytesIO()
        table.to_parquet(sink, index=False)
        return sink.getvalue()
    if kind == "latex":
        return latex(shown, lines).encode()
    return markdown(shown, lines).encode()


def markdown(shown: pd.DataFrame, lines: Sequence[str] = ()) -> str:
    """A table nobody truncates; pipes in names are escaped."""
    names = [_cell(name) for name in shown.columns]
    body = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    widths = [max(len(row[i]) for row in [names, *body]) for i in range(len(names))]
    left = [str(name) in ("defense", "seed", "flags", "status") for name in shown.columns]
    rule = ["-" * width if is_left else "-" * (width - 1) + ":" for width, is_left in zip(widths, left, strict=True)]
    rows = [names, rule, *body]
    text = "\n".join(
        "| "
        + " | ".join(
            value.ljust(width) if is_left else value.rjust(width)
            for value, width, is_left in zip(row, widths, left, strict=True)
        )
        + " |"
        for row in rows
    )
    notes = "".join(f"\n- {_cell(line)}" for line in lines)
    return f"{text}\n{notes}\n" if notes else f"{text}\n"


def latex(shown: pd.DataFrame, lines: Sequence[str] = ()) -> str:
    """A booktabs table; the notes stand above it as comments."""
    columns = "".join("l" if str(name) in ("defense", "seed", "flags", "status") else "r" for name in shown.columns)
    out = [f"% {' '.join(line.split())}" for line in lines]
    out += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    out.append(" & ".join(escape_latex(str(name)) for name in shown.columns) + r" \\")
    out.append(r"\midrule")
    for row in shown.itertuples(index=False):
        out.append(" & ".join(escape_latex(str(value)) for value in row) + r" \\")
    out += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(out)


def escape_latex(text: str) -> str:
    """Every character that means something to LaTeX, made plain."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", r"\|")
