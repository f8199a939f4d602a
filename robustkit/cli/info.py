"""`robustkit info`: one entry with its parameters."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from robustkit.cli.complete import complete
from robustkit.cli.list import row
from robustkit.cli.output import cell, show
from robustkit.cli.session import plugin_host
from robustkit.hookspecs import KINDS
from robustkit.host import AmbiguousName, Host, NameNotFound, Registered
from robustkit.params import UsageError, describe, parse_call, suggest

_SHOWN_ABOVE = ("name", "kind", "summary", "distribution", "version")
_PARAMETER = ("parameter", "type", "default", "unit", "range", "help")


def info(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="E.g. pgd, torchattacks.pgd.", autocompletion=complete(*KINDS)),
    ],
) -> None:
    """Show one entry: parameters, paper, provider, file.

    Parameters come with type, default, unit and range; write them as pgd:steps=50:restarts=5.
    """
    host = plugin_host()
    for number, registered in enumerate(_named(host, parse_call(name)[0])):
        if number:
            typer.echo()
        _show(host, registered)


def _named(host: Host, name: str) -> list[Registered]:
    """The entries of this name: an attack and a defense may share one."""
    found, ambiguous = [], None
    for kind in KINDS:
        try:
            found.append(host.find(kind, name))
        except AmbiguousName as error:
            ambiguous = error
        except NameNotFound:
            continue
    if found:
        return found
    if ambiguous:
        raise ambiguous
    known = {word for kind in KINDS for r in host.entries(kind) for word in (r.short, r.entry.name)}
    raise NameNotFound(f"nothing is called {name!r}{suggest(name, known)}; robustkit list shows all names")


def _show(host: Host, registered: Registered) -> None:
    facts = {key: value for key, value in row(registered).items() if key not in _SHOWN_ABOVE}
    facts["provider"] = f"{registered.provider.distribution} {registered.provider.version}".strip()
    try:
        component, problem = host.resolve(registered), None
        facts["file"] = getattr(sys.modules[component.__module__], "__file__", "") or ""
    except UsageError as error:
        component, problem = None, error
    typer.echo(f"{registered.short} ({registered.entry.kind}): {registered.entry.summary}\n")
    width = max(map(len, facts))
    for key, value in facts.items():
        if cell(value):
            typer.echo(f"{key:<{width}}  {cell(value)}")
    if problem:
        raise problem
    if component:
        typer.echo()
        rows = [{"parameter": p.name, **dataclasses.asdict(p)} for p in describe(component)]
        if rows:
            show(rows, [key for key in _PARAMETER if any(each[key] for each in rows)])
        else:
            typer.echo("It has no parameters.")
