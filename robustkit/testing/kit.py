"""From a plugin's entries to checks, and from checks to pytest parameters or outcomes."""

from __future__ import annotations

import fnmatch
import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, get_args

from robustkit.contracts import Norm
from robustkit.hookspecs import Kind
from robustkit.host import Host, default_host
from robustkit.params import UsageError, suggest
from robustkit.testing import attack, certifier, defense, detector, others, static
from robustkit.testing.subject import Part, Subject, random_states_kept

_BY_KIND: dict[Kind, Callable[[Subject], Iterator[Part]]] = {
    "attack": attack.parts,
    "defense": defense.parts,
    "certifier": certifier.parts,
    "detector": detector.parts,
    "poison": others.poison_parts,
    "dataset": others.dataset_parts,
    "model": others.model_parts,
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that has to hold of one entry, or of a whole plugin; call it, it raises AssertionError.

    Args:
        provider: the plugin's name.
        entry: the entry's name; empty for a check of the whole plugin.
        norm: the threat model's norm, where the check is made once for each.
        name: of the check, e.g. "ball_and_box".
        body: does the work.
    """

    provider: str
    entry: str
    norm: Norm | None
    name: str
    body: Callable[[], None] = field(repr=False)

    @property
    def tag(self) -> str:
        """The id without the provider: "pgd-linf-ball_and_box"."""
        return "-".join(part for part in (self.entry, self.norm, self.name) if part)

    @property
    def id(self) -> str:
        return f"{self.provider}.{self.tag}" if self.entry else f"{self.provider}-{self.name}"

    def __call__(self) -> None:
        with random_states_kept():
            self.body()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one check. `reason`: why it failed, or why that was expected."""

    check: Check
    status: Literal["passed", "failed", "expected failure", "passed unexpectedly"]
    reason: str
    seconds: float

    @property
    def good(self) -> bool:
        return self.status in ("passed", "expected failure")


def checks(
    plugin: ModuleType | str,
    *,
    kinds: Iterable[Kind] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Check]:
    """All checks of a plugin, generated from its entries; building them imports no component.

    Args:
        plugin: the plugin's module, or the name of an installed provider ("torchattacks").
        kinds: only these kinds; checks of the whole plugin are then left out.
        settings: parameters by entry name for the checks, e.g. {"jsma": {"gamma": 0.2}}: budgets that keep a
            test quick, and values for parameters without a default. None: what the plugin declares.

    Raises:
        UsageError: no such provider, or settings for an entry that it does not offer.
    """
    host, provider = _host_of(plugin)
    given = _declared(plugin, "SETTINGS") if settings is None else settings
    found = []
    known = set()
    if kinds is None:
        for part in static.plugin_parts(host, provider):
            found.append(Check(provider=provider, entry="", norm=None, name=part.name, body=part.body))
    for kind in kinds if kinds is not None else get_args(Kind):
        for registered in host.entries(kind):
            if registered.provider.name != provider:
                continue
            name = registered.entry.name
            known.add(name)
            subject = Subject(host=host, registered=registered, given=given.get(name, {}))
            for part in (*static.entry_parts(subject), *_BY_KIND[kind](subject)):
                found.append(Check(provider=provider, entry=name, norm=part.norm, name=part.name, body=part.body))
    unknown = set(given) - known
    if unknown and kinds is None:
        word = min(unknown)
        raise UsageError(f"settings name {word!r}, which {provider} does not offer{suggest(word, known)}")
    return found


def parametrize(
    plugin: ModuleType | str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    kinds: Iterable[Kind] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    slow: Iterable[str] = (),
) -> Any:
    """`pytest.mark.parametrize("check", …)` over the checks of a plugin, with readable ids.

    Args:
        plugin, kinds, settings: as in `checks`.
        expected_failures: tag, with `*` for anything, to the reason; such a check must fail (strict xfail), so
            that the test tells when a new release mends it. None: what the plugin declares.
        slow: tags, with `*`, of checks that take minutes; they carry pytest's mark `slow`.

    Raises:
        UsageError: an expected failure or a slow tag that no check has (only where all kinds are checked).
    """
    import pytest

    expected = _declared(plugin, "EXPECTED_FAILURES") if expected_failures is None else expected_failures
    slow = tuple(slow)
    found = checks(plugin, kinds=kinds, settings=settings)
    if kinds is None:
        _refuse_unused((*expected, *slow), found)
    rows = []
    for check in found:
        marks = []
        reason = _reason(check, expected)
        if reason:
            marks.append(pytest.mark.xfail(reason=reason, strict=True))
        if any(fnmatch.fnmatchcase(check.tag, pattern) for pattern in slow):
            marks.append(pytest.mark.slow)
        rows.append(pytest.param(check, id=check.id, marks=marks))
    return pytest.mark.parametrize("check", rows)


def run(
    plugin: ModuleType | str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    kinds: Iterable[Kind] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Outcome]:
    """Run the checks one by one and tell what came of each; never raises for a component's sake.

    Args:
        plugin, kinds, settings, expected_failures: as in `checks` and `parametrize`.
    """
    expected = _declared(plugin, "EXPECTED_FAILURES") if expected_failures is None else expected_failures
    found = checks(plugin, kinds=kinds, settings=settings)
    if kinds is None:
        _refuse_unused(expected, found)
    for check in found:
        started = time.perf_counter()
        failure = ""
        try:
            check()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else str(error)
            failure = failure or "an assertion without a message"
        reason = _reason(check, expected)
        yield Outcome(
            check=check,
            status=("expected failure" if failure else "passed unexpectedly")
            if reason
            else ("failed" if failure else "passed"),
            reason=reason or failure,
            seconds=time.perf_counter() - started,
        )


def _host_of(plugin: ModuleType | str) -> tuple[Host, str]:
    if isinstance(plugin, str):
        host = default_host()
        names = {provider.name for provider in host.providers}
        if plugin not in names:
            for broken in host.broken:
                if broken.provider == plugin:
                    raise UsageError(f"plugin {plugin} is broken at {broken.stage}: {broken.error}")
            raise UsageError(f"no plugin {plugin!r} is installed{suggest(plugin, names)}")
        return host, plugin
    name = plugin.__name__.rpartition(".")[2].removeprefix("robustkit_")
    host = Host({name: plugin}, discover=False)
    for broken in host.broken:
        if broken.provider == name:
            raise UsageError(f"plugin {name} is broken at {broken.stage}: {broken.error}")
    return host, name


def _declared(plugin: ModuleType | str, what: str) -> Mapping[str, Any]:
    """What a plugin says of itself in an optional module `conformance` beside its rows, or nothing."""
    host, provider = _host_of(plugin)
    module = next(p.module for p in host.providers if p.name == provider) + ".conformance"
    try:
        declared: Mapping[str, Any] = getattr(importlib.import_module(module), what, {})
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return {}
    return declared


def _reason(check: Check, expected: Mapping[str, str]) -> str:
    for pattern, reason in expected.items():
        if fnmatch.fnmatchcase(check.tag, pattern):
            return reason
    return ""


def _refuse_unused(patterns: Iterable[str], found: list[Check]) -> None:
    tags = [check.tag for check in found]
    for pattern in patterns:
        if not fnmatch.filter(tags, pattern):
            raise UsageError(f"{pattern!r} names no check{suggest(pattern, tags)}")
