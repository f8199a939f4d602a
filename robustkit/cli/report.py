"""`robustkit report`: the tables of an old run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustkit.params import UsageError


def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="table, markdown, csv, json, latex or parquet.")
    ] = None,
    output: Annotated[
        list[Path] | None, typer.Option("--output", "-o", help="A file: .md .csv .json .tex .parquet.")
    ] = None,
) -> None:
    """Print the table of a run from its records; nothing is computed anew."""
    from robustkit.api import load
    from robustkit.cli.bench import publish
    from robustkit.report.files import format_of

    if not run.is_dir():
        raise UsageError(f"{run}: there is no such run directory")
    for path in output or []:
        format_of(path)
    result = load(run)
    publish(result, list(output or []), format)
    if not result.ok:
        raise typer.Exit(1)
