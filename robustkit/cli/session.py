"""What commands share: the host with its one line on broken plugins, and settings of typer."""

from __future__ import annotations

import os
from typing import Any

import typer

from robustkit.host import Broken, Host, default_host
from robustkit.params import UsageError

STRICT = "ROBUSTKIT_STRICT_PLUGINS"

PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
"""Settings of every `typer.Typer` but the outermost, which installs completion; plain help imports no rich."""


def plugin_host() -> Host:
    """The host of this process, with one line on stderr where plugins are broken.

    Raises:
        UsageError: a plugin is broken and --strict-plugins or ROBUSTKIT_STRICT_PLUGINS=1 is given.
    """
    host = default_host()
    refuse_broken(host)
    if host.broken:
        typer.echo(summary(host.broken), err=True)
    return host


def refuse_broken(host: Host) -> None:
    """Raise UsageError where plugins are broken and the user wants none to be."""
    if host.broken and os.environ.get(STRICT):
        names = ", ".join(sorted({failure.provider for failure in host.broken}))
        raise UsageError(f"{summary(host.broken)} ({names}); plugins are strict here")


def summary(broken: tuple[Broken, ...]) -> str:
    count = len({(failure.provider, failure.distribution) for failure in broken})
    return f"{count} plugin{'s' if count > 1 else ''} failed to load; see robustkit plugins"
