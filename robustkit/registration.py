"""Imports plugins and takes their entries; what fails is set aside with its stage, and the others go on.

Hooks are called implementation by implementation: pluggy's own call mixes the results of all plugins, leaves
generators unread until they fail elsewhere, and stops at the first that raises. Hook wrappers are thereby bypassed.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pluggy

from robustkit import builtin
from robustkit.discovery import (
    Broken,
    Provider,
    candidates,
    describe,
    installed_version,
    name_complaint,
    requirement_complaint,
)
from robustkit.hookspecs import API, HOOKS, KINDS, Entry, Kind, Specs
from robustkit.params import suggest

BUILTIN = "robustkit"


@dataclass(frozen=True)
class Registered:
    """An entry with its provider."""

    entry: Entry
    provider: Provider

    @property
    def qualified(self) -> str:
        """E.g. "torchattacks.pgd"; "robustkit.pgd" for what is built in."""
        return f"{self.provider.name}.{self.entry.name}"

    @property
    def short(self) -> str:
        """What a user writes: bare for the built-in, else qualified."""
        return self.entry.name if self.provider.name == BUILTIN else self.qualified


class Registry:
    """Fills `providers`, `broken` and `entries`, plugin by plugin; the built-in one is there from the start."""

    def __init__(self) -> None:
        self.providers: list[Provider] = []
        self.broken: list[Broken] = []
        self.entries: dict[Kind, list[Registered]] = {kind: [] for kind in KINDS}
        self._manager = pluggy.PluginManager("robustkit")
        self._manager.add_hookspecs(Specs)
        self._owners: dict[str, Provider] = {}
        self._version = installed_version()
        self.add(Provider(BUILTIN, "robustkit", self._version, builtin.__name__), builtin)

    def discover(self, allow: frozenset[str] | None) -> None:
        """Add the plugins of installed distributions; `allow` holds the names of those wanted, None is all."""
        seen = set()
        for found in candidates():
            name = found.provider if isinstance(found, Broken) else found.provider.name
            if allow is not None and name not in allow:
                continue
            seen.add(name)
            if isinstance(found, Broken):
                self.broken.append(found)
                continue
            if complaint := name_complaint(found):
                self._fail(found.provider, "discovery", complaint)
            elif self._is_taken(found.provider):
                continue
            elif complaint := requirement_complaint(found, self._version):
                self._fail(found.provider, "requirement", complaint)
            else:
                self._import(found.provider)
        for name in sorted((allow or frozenset()) - seen - {BUILTIN}):
            self._fail(Provider(name, "", "", ""), "discovery", "asked for, but no installed distribution has it")

    def add(self, provider: Provider, module: ModuleType) -> None:
        """Take the entries of a module's hooks."""
        if not self._is_taken(provider):
            self._owners[provider.name] = provider
            self._register(provider, module)

    def _import(self, provider: Provider) -> None:
        self._owners[provider.name] = provider
        module = None
        with self._guard(provider, "import"):
            module = importlib.import_module(provider.module)
        if module is not None:
            self._register(provider, module)

    def _is_taken(self, provider: Provider) -> bool:
        """Two plugins of one name could not both be written; the first keeps it."""
        owner = self._owners.get(provider.name)
        if owner is None:
            return False
        error = f"the name {provider.name!r} is taken by {owner.distribution or owner.module}; uninstall one of the two"
        self._fail(provider, "discovery", error)
        return True

    def _register(self, provider: Provider, module: ModuleType) -> None:
        api = getattr(module, "ROBUSTKIT_API", API)
        if api != API:
            error = f"built for API {api} of RobustKit's hooks, this one has {API}; upgrade one of the two"
            self._fail(provider, "requirement", error)
            return
        failures = len(self.broken)
        with self._guard(provider, "registration"):
            self._manager.register(module, name=provider.name)
        if len(self.broken) > failures:
            # pluggy 1.6 keeps a plugin that failed validation
            if self._manager.get_plugin(provider.name) is module:
                self._manager.unregister(name=provider.name)
            return
        taken = 0
        for caller in self._manager.get_hookcallers(module) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not module:
                    continue
                if caller.name in HOOKS:
                    taken += self._collect(provider, caller.name, implementation.function)
                elif not implementation.optionalhook:
                    error = f"there is no hook {caller.name!r}{suggest(caller.name, HOOKS)}"
                    self._fail(provider, "registration", error)
        if taken:
            self.providers.append(provider)
        elif len(self.broken) == failures:
            self._fail(provider, "registration", _why_nothing(module))

    def _collect(self, provider: Provider, hook: str, call: Callable[..., Any]) -> int:
        """Take the entries of one hook, all or none: half a list would hide what is missing."""
        entry_type = HOOKS[hook]
        entries: dict[str, Registered] = {}
        with self._guard(provider, hook):
            for entry in call() or ():
                if not isinstance(entry, entry_type):
                    raise TypeError(f"yields {entry!r}, which is no {entry_type.__name__}")
                if entry.name in entries:
                    raise ValueError(f"yields {entry.name!r} twice")
                entries[entry.name] = Registered(entry, provider)
            self.entries[entry_type.kind].extend(entries.values())
            return len(entries)
        return 0

    @contextlib.contextmanager
    def _guard(self, provider: Provider, stage: str) -> Iterator[None]:
        """Whatever a plugin raises is noted; what it prints goes to stderr, for stdout is the command's answer."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fail(provider, stage, describe(error))

    def _fail(self, provider: Provider, stage: str, error: str) -> None:
        self.broken.append(Broken(provider.name, provider.distribution, provider.version, stage, error))


def _why_nothing(module: ModuleType) -> str:
    bare = [name for name in HOOKS if callable(getattr(module, name, None)) and not _is_marked(module, name)]
    if bare:
        return f"{bare[0]} is not decorated with robustkit.hookimpl"
    return "contributes nothing: no hook of the module yields an entry"


def _is_marked(module: ModuleType, name: str) -> bool:
    return hasattr(getattr(module, name), "robustkit_impl")


def load(plugins: Mapping[str, ModuleType] | None, discover: bool, allow: frozenset[str] | None) -> Registry:
    """The built-in plugin, those of installed distributions, and modules given by name."""
    registry = Registry()
    if discover:
        registry.discover(allow)
    for name, module in (plugins or {}).items():
        registry.add(Provider(name, module.__name__, "", module.__name__), module)
    for registered in registry.entries.values():
        registered.sort(key=lambda r: (r.provider.name != BUILTIN, r.qualified))
    return registry
