"""`robustkit plugins`: what was loaded, what is broken and why; `plugins check NAME` runs the conformance kit."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from robustkit.cli.complete import complete_plugins
from robustkit.cli.output import FormatOption, show
from robustkit.cli.session import PLAIN, refuse_broken
from robustkit.hookspecs import KINDS
from robustkit.host import Host, default_host

COLUMNS = ("plugin", "status", "distribution", "version", "entries", "stage", "error")

app = typer.Typer(invoke_without_command=True, **PLAIN)


@app.callback()
def plugins(ctx: typer.Context, format: FormatOption = None) -> None:
    """Show which plugins work and which are broken, and why.

    `entries` counts what a plugin offers. A plugin may work in part: then it has a row for each part that doesn't.
    """
    if ctx.invoked_subcommand is None:
        host = default_host()
        show(rows(host), COLUMNS, format)
        refuse_broken(host)


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="E.g. torchattacks.", autocompletion=complete_plugins)],
) -> None:
    """Run a plugin's conformance checks; exit code 1 where one fails."""
    from robustkit import testing

    failed = 0
    total = 0
    for outcome in testing.run(name):
        total += 1
        failed += not outcome.good
        reason = f"  {' '.join(outcome.reason.split())}" if outcome.reason else ""
        typer.echo(f"{outcome.status:<8} {outcome.check.id}  {outcome.seconds:.2f} s{reason}")
    typer.echo(f"{total - failed} of {total} checks hold", err=True)
    raise typer.Exit(1 if failed else 0)


def rows(host: Host) -> list[dict[str, Any]]:
    """One row a plugin that works, and one for each part that doesn't."""
    counts: dict[str, int] = {}
    for kind in KINDS:
        for registered in host.entries(kind):
            counts[registered.provider.name] = counts.get(registered.provider.name, 0) + 1
    working = [
        {
            "plugin": provider.name,
            "status": "ok",
            "distribution": provider.distribution,
            "version": provider.version,
            "entries": counts[provider.name],
            "stage": "",
            "error": "",
        }
        for provider in host.providers
    ]
    failing = [
        {
            "plugin": failure.provider,
            "status": "broken",
            "distribution": failure.distribution,
            "version": failure.version,
            "entries": None,
            "stage": failure.stage,
            "error": failure.error,
        }
        for failure in host.broken
    ]
    return [*working, *failing]
