"""`robustkit list`: what is there to choose from. Imports no component."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from robustkit.cli.complete import complete_kinds
from robustkit.cli.output import FormatOption, show
from robustkit.cli.session import plugin_host
from robustkit.hookspecs import KINDS, Kind
from robustkit.host import Registered
from robustkit.params import UsageError, suggest

_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "attack": ("norms", "knowledge", "goal", "targeted"),
    "defense": ("trains",),
    "certifier": ("norms", "probabilistic"),
    "detector": ("scope",),
}


def list_entries(
    kind: Annotated[
        str,
        typer.Argument(metavar="[KIND]", help=f"One of: {', '.join(KINDS)}.", autocompletion=complete_kinds),
    ] = "",
    format: FormatOption = None,
) -> None:
    """List what there is to choose from.

    Json and csv hold every field of an entry. `robustkit info NAME` has the parameters of one.
    """
    kinds = (_kind(kind),) if kind else KINDS
    host = plugin_host()
    rows = [row(registered) for each in kinds for registered in host.entries(each)]
    columns = ("name", *_COLUMNS.get(kinds[0], ()), "summary") if kind else ("name", "kind", "summary")
    show(rows, columns, format)


def row(registered: Registered) -> dict[str, Any]:
    """All that an entry says, as plain columns; `name` is what a user writes."""
    entry, provider = registered.entry, registered.provider
    facts = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    return {
        **facts,
        "name": registered.short,
        "kind": entry.kind,
        "qualified": registered.qualified,
        "distribution": provider.distribution,
        "version": provider.version,
    }


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if text in (kind, f"{kind}s"):
            return kind
    close = suggest(text, [f"{kind}s" for kind in KINDS])
    raise UsageError(f"there is no kind {text!r}{close}")
