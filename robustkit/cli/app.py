"""The command `robustkit`: its global options, its commands, and how errors become exit codes.

A command is a function with typer's annotations (or a `typer.Typer` of subcommands) in a module of its own, and one
row in COMMANDS. The module is imported when its command is run, and all of them for `robustkit --help`: their top
level therefore holds nothing heavy. torch, pandas and NumPy are imported inside the functions, which a test checks.

Exit codes: 0 fine; 1 a cell failed or a gate tripped (`raise typer.Exit(1)`); 2 usage, from any `UsageError`;
130 interrupted.
"""

from __future__ import annotations

import importlib
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from robustkit.cli.session import PLAIN, STRICT
from robustkit.params import UsageError, suggest

COMMANDS = {
    "bench": "robustkit.cli.bench:bench",
    "train": "robustkit.cli.train:train",
    "attack": "robustkit.cli.attack:attack",
    "certify": "robustkit.cli.certify:certify",
    "scan": "robustkit.cli.scan:scan",
    "report": "robustkit.cli.report:report",
    "compare": "robustkit.cli.compare:compare",
    "study": "robustkit.cli.study:study",
    "list": "robustkit.cli.list:list_entries",
    "info": "robustkit.cli.info:info",
    "plugins": "robustkit.cli.plugins:app",
    "doctor": "robustkit.cli.doctor:doctor",
}
"""Name → "module:function or Typer", in the order of `robustkit --help`."""

_GLOBAL = ("--no-plugins", "--strict-plugins")


class Group(TyperGroup):
    """Turns errors into exit codes, in one place for all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Global options may stand anywhere: `robustkit list --no-plugins` is what people type."""
        return super().parse_args(ctx, sorted(args, key=lambda word: word not in _GLOBAL))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(**PLAIN)
            found.command(cmd_name)(function)
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            raise UsageError(f"there is no command {args[0]!r}{suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="robustkit",
    cls=Group,
    no_args_is_help=True,
    **{**PLAIN, "add_completion": True},
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import robustkit

        typer.echo(f"robustkit {robustkit.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    no_plugins: Annotated[
        bool, typer.Option("--no-plugins", help="Only what is built in (as ROBUSTKIT_PLUGINS= does).")
    ] = False,
    strict_plugins: Annotated[
        bool, typer.Option("--strict-plugins", envvar=STRICT, help="Exit with 2 where a plugin is broken.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """How robust is this model, really? Any defense x any attack under one threat model, in one table."""
    if no_plugins:
        os.environ["ROBUSTKIT_PLUGINS"] = ""  # processes that a command starts see it too
    os.environ[STRICT] = "1" if strict_plugins else ""


def main() -> None:
    """The console script."""
    app(prog_name="robustkit")
