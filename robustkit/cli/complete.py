"""Shell completion of names: `typer.Option(autocompletion=complete("attack"))`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from robustkit.hookspecs import KINDS, Kind
from robustkit.host import Registered, default_host

Completer = Callable[[str], list[tuple[str, str]]]


def complete(*kinds: Kind) -> Completer:
    """A completer of the entries of some kinds, also of the last name of a comma-separated list.

    Names come from the entries, so nothing heavy is imported. After a name's first ":" the parameters begin; those
    would need the component's module, and are left to `robustkit info`.
    """

    def names(incomplete: str) -> list[tuple[str, str]]:
        head, comma, _ = incomplete.rpartition(",")
        host = default_host()
        rows = _rows(entry for kind in kinds for entry in host.entries(kind))
        return _matching([(head + comma + name, help) for name, help in rows], incomplete)

    return names


def complete_kinds(incomplete: str) -> list[tuple[str, str]]:
    return _matching([(f"{kind}s", "") for kind in KINDS], incomplete)


def complete_plugins(incomplete: str) -> list[tuple[str, str]]:
    rows = [(provider.name, provider.distribution) for provider in default_host().providers]
    return _matching(rows, incomplete)


def _rows(entries: Iterable[Registered]) -> list[tuple[str, str]]:
    return [(registered.short, registered.entry.summary) for registered in entries]


def _matching(rows: list[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    return [row for row in rows if row[0].startswith(incomplete)]
