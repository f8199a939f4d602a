"""`robustkit report`: the tables of an old run again, or its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustkit.params import UsageError


def report(
    run: Annotated[str, typer.Argument(help="A run directory, or its URL.")],
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="table, markdown, csv, json, latex or parquet.")
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write the page RUN/report.html and RUN/figures/ instead of the table.")
    ] = False,
    output: Annotated[
        list[Path] | None, typer.Option("--output", "-o", help="A file: .md .csv .json .tex .parquet.")
    ] = None,
) -> None:
    """Print the table of a run from its records, or write its page; nothing is measured anew.

    Example: robustkit report runs/mnist_10k-cnn-1a2b3c4d --html
    """
    from robustkit.api import load
    from robustkit.cli.bench import publish, publish_inspections
    from robustkit.data.remote import local_path
    from robustkit.report.files import format_of

    local = local_path(run)
    if local is not None and not local.is_dir():
        raise UsageError(f"{run}: there is no such run directory")
    for path in output or []:
        format_of(path)
    result = load(run)
    if html:
        if format is not None:
            raise UsageError(f"--format {format} is of the table, which --html does not print; leave one of them out")
        page = result.report()
        typer.echo(str(page) if local is not None else f"{result.place}/{page.name}")
    if output or not html:
        publish(result, list(output or []), format)
        publish_inspections(result, format)
        result.push()
    if not result.ok:
        raise typer.Exit(1)
