"""The plugin host: entries by qualified or bare name, resolved and built when they are first used.

Nothing here imports torch or a wrapped library: an entry names its component by a string, which is imported
when the component is built. A plugin that fails is listed in `Host.broken` and breaks nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from robustkit.discovery import Broken, Provider, describe
from robustkit.hookspecs import KINDS, Entry, Kind
from robustkit.params import UsageError, as_text, build, defaults, parse_call, suggest, to_plain
from robustkit.registration import BUILTIN, Registered, load

__all__ = [
    "BUILTIN",
    "AmbiguousName",
    "Broken",
    "Component",
    "Host",
    "MissingLibrary",
    "NameNotFound",
    "Provider",
    "Registered",
    "default_host",
]


class NameNotFound(UsageError):
    """No entry has this name."""


class AmbiguousName(UsageError):
    """Several plugins have an entry of this name, and none of them is built in."""


class MissingLibrary(UsageError):
    """The component's module needs a distribution that is not installed."""


@dataclass(frozen=True)
class Component:
    """A built component: its parameters are fixed, it is ready to be called.

    Args:
        registered: entry and provider.
        value: the dataclass instance.
        params: all parameters as plain values, defaults written out.
        label: the shortest text that builds it again, e.g. "pgd:steps=50".
    """

    registered: Registered
    value: Any
    params: Mapping[str, Any]
    label: str

    @property
    def entry(self) -> Entry:
        return self.registered.entry


class Host:
    """All plugins of this process.

    Args:
        plugins: modules by provider's name, registered besides what is discovered (for tests and notebooks).
        discover: look for entry points of installed distributions.
        allow: names of the providers to load; None is all. The built-in plugin is always there.
    """

    def __init__(
        self,
        plugins: Mapping[str, ModuleType] | None = None,
        *,
        discover: bool = True,
        allow: frozenset[str] | None = None,
    ) -> None:
        registry = load(plugins, discover, allow)
        self._providers = tuple(registry.providers)
        self._broken = tuple(registry.broken)
        self._entries = {kind: tuple(entries) for kind, entries in registry.entries.items()}

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The plugins that contribute entries, the built-in one first."""
        return self._providers

    @property
    def broken(self) -> tuple[Broken, ...]:
        """What was left out, in the order of discovery."""
        return self._broken

    def entries(self, kind: Kind) -> tuple[Registered, ...]:
        """All entries of a kind, the built-in ones first, then by qualified name."""
        return self._entries[kind]

    def find(self, kind: Kind, name: str) -> Registered:
        """The entry a name stands for: qualified ("torchattacks.pgd"), or bare.

        A bare name is the built-in entry, else that of the only plugin that has one.

        Raises:
            NameNotFound: with close names, the kind that has it, or the broken plugin that may.
            AmbiguousName: several plugins have it; the message lists them.
        """
        known = self._entries[kind]
        for registered in known:
            if name in (registered.qualified, registered.short):
                return registered
        owners = [registered for registered in known if registered.entry.name == name]
        if len(owners) > 1:
            choices = ", ".join(owner.qualified for owner in owners)
            raise AmbiguousName(f"{kind} {name!r} is offered by several plugins; write one of: {choices}")
        if not owners:
            self._not_found(kind, name)
        return owners[0]

    def resolve(self, registered: Registered) -> type[Any]:
        """Import what an entry points to.

        Raises:
            MissingLibrary: an import failed; the message has the line that installs what is missing.
            UsageError: the module fails in another way, or has no such dataclass.
        """
        entry = registered.entry
        module_name, _, attribute = entry.target.partition(":")
        blame = f"tell the authors of {registered.provider.distribution}"
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            remedy = f"install it with: pip install {entry.needs}" if entry.needs else blame
            raise MissingLibrary(f"{registered.qualified} cannot be imported: {error}; {remedy}") from error
        except (Exception, SystemExit) as error:
            raise UsageError(f"{registered.qualified} cannot be imported: {describe(error)}; {blame}") from error
        component = getattr(module, attribute, None)
        if not (isinstance(component, type) and dataclasses.is_dataclass(component)):
            raise UsageError(f"{registered.qualified}: {module_name} has no dataclass {attribute!r}; {blame}")
        return component

    def build(self, kind: Kind, text: str, given: Mapping[str, Any] | None = None) -> Component:
        """Build a component from its name with parameters, "pgd:steps=50", and more of them from `given`.

        Raises:
            UsageError: unknown or ambiguous name, missing library, unknown or unfit parameter.
        """
        name, params = parse_call(text)
        registered = self.find(kind, name)
        twice = set(params) & set(given or {})
        if twice:
            raise UsageError(f"{text}: {', '.join(sorted(twice))} is given twice")
        return self.assemble(registered, {**params, **(given or {})})

    def assemble(self, registered: Registered, given: Mapping[str, Any]) -> Component:
        """Build the component of an entry from parameters.

        Raises:
            UsageError: missing library, unknown or unfit parameter.
        """
        component = self.resolve(registered)
        value = build(component, given, registered.short)
        known = defaults(component)
        told = [
            f"{field.name}={as_text(getattr(value, field.name))}"
            for field in dataclasses.fields(component)
            if field.init and (field.name not in known or known[field.name] != getattr(value, field.name))
        ]
        return Component(registered, value, to_plain(value), ":".join([registered.short, *told]))

    def _not_found(self, kind: Kind, name: str) -> NoReturn:
        known = self._entries[kind]
        close = suggest(name, {r.short for r in known} | {r.entry.name for r in known})
        message = f"no {kind} is called {name!r}{close}"
        for other in KINDS:
            if any(name in (r.qualified, r.short, r.entry.name) for r in self._entries[other]):
                message += f" ({name} is a {other})"
        plugin = name.partition(".")[0]
        if any(failure.provider == plugin for failure in self._broken):
            message += f"; plugin {plugin} is broken, see: robustkit plugins"
        elif "did you mean" not in close:
            message += f"; robustkit list {kind}s shows them all"
        raise NameNotFound(message)


@functools.lru_cache(maxsize=1)
def default_host() -> Host:
    """The host of this process; ROBUSTKIT_PLUGINS="" loads no plugin, "a,b" only those, unset all."""
    wanted = os.environ.get("ROBUSTKIT_PLUGINS")
    allow = None if wanted is None else frozenset(part.strip() for part in wanted.split(",") if part.strip())
    return Host(allow=allow)
