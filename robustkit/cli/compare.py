"""`robustkit compare`: two runs against each other, paired sample by sample."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from robustkit.cli.output import FormatOption, show
from robustkit.params import as_text


def compare(
    first: Annotated[str, typer.Argument(help="A run directory, or its URL.")],
    second: Annotated[str, typer.Argument(help="Another, on the same test images.")],
    format: FormatOption = None,
) -> None:
    """Difference second - first of each accuracy, with its 95 % interval and McNemar's exact test."""
    from robustkit.api import load
    from robustkit.report import compare as comparing

    a, b = load(first), load(second)
    table = comparing.compare(a.records, a.samples.__getitem__, b.records, b.samples.__getitem__)
    rows: list[dict[str, Any]] = []
    for row in table.to_dict("records"):
        rows.append(
            {
                **{str(key): value for key, value in row.items()},
                "eps": "" if math.isnan(row["eps"]) else as_text(row["eps"]),
                "first": f"{100 * row['first']:.1f}",
                "second": f"{100 * row['second']:.1f}",
                "difference": f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]",
                "p (McNemar)": f"{row['p (McNemar)']:.2g}",
            }
        )
    columns = [name for name in table.columns if name not in ("low", "high")]
    show(rows, columns, format)
    typer.echo("Accuracies and differences in percent; intervals after Bonett & Price 2012, p after McNemar.", err=True)
    for line in comparing.differences(a.environment, b.environment):
        typer.echo(f"the runs differ in {line}", err=True)
