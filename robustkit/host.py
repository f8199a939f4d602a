"""The plugin host: discovery, isolation of broken plugins, qualified names, lazy resolution.

Nothing here imports torch or a wrapped library: an entry names its component by a string, which is imported
when the component is built. Registration hooks are called implementation by implementation, so that one that
fails is reported with its distribution and stage while the others go on.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any

import pluggy
from packaging.requirements import InvalidRequirement, Requirement

from robustkit import builtin
from robustkit.hookspecs import (
    AttackEntry,
    CertifierEntry,
    DatasetEntry,
    DefenseEntry,
    DetectorEntry,
    Entry,
    Kind,
    ModelEntry,
    PoisonEntry,
    Specs,
)
from robustkit.params import UsageError, build, parse_call, suggest, to_plain

GROUP = "robustkit"
BUILTIN = "robustkit"

HOOKS: Mapping[str, type[Entry]] = {
    "robustkit_attacks": AttackEntry,
    "robustkit_defenses": DefenseEntry,
    "robustkit_certifiers": CertifierEntry,
    "robustkit_detectors": DetectorEntry,
    "robustkit_poisons": PoisonEntry,
    "robustkit_datasets": DatasetEntry,
    "robustkit_models": ModelEntry,
}
KINDS: tuple[Kind, ...] = tuple(entry.kind for entry in HOOKS.values())


class NameNotFound(UsageError):
    """No entry has this name."""


class AmbiguousName(UsageError):
    """Several plugins have an entry of this name, and none of them is built in."""


class MissingLibrary(UsageError):
    """The component's module needs a distribution that is not installed."""


@dataclass(frozen=True)
class Provider:
    """Who brings entries: the entry point's name, its distribution and version, its module."""

    name: str
    distribution: str
    version: str
    module: str


@dataclass(frozen=True)
class Broken:
    """A plugin, or a part of one, that was left out, and why."""

    provider: str
    distribution: str
    version: str
    stage: str
    error: str


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


@dataclass(frozen=True)
class _Found:
    """An entry point before it is imported."""

    name: str
    module: str
    distribution: str
    version: str
    requires: tuple[str, ...]


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
        self._manager = pluggy.PluginManager("robustkit")
        self._manager.add_hookspecs(Specs)
        self._providers: list[Provider] = []
        self._broken: list[Broken] = []
        self._entries: dict[Kind, list[Registered]] = {kind: [] for kind in KINDS}
        version = _own_version()
        self._register(Provider(BUILTIN, "robustkit", version, builtin.__name__), builtin)
        if discover:
            self._discover(version, allow)
        for name, module in (plugins or {}).items():
            self._register(Provider(name, module.__name__, "", module.__name__), module)
        for registered in self._entries.values():
            registered.sort(key=lambda r: (r.provider.name != BUILTIN, r.qualified))

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The plugins that were registered, the built-in one first."""
        return tuple(self._providers)

    @property
    def broken(self) -> tuple[Broken, ...]:
        """What was left out, in the order of discovery."""
        return tuple(self._broken)

    def entries(self, kind: Kind) -> tuple[Registered, ...]:
        """All entries of a kind, the built-in ones first, then by qualified name."""
        return tuple(self._entries[kind])

    def find(self, kind: Kind, name: str) -> Registered:
        """The entry a name stands for: qualified ("torchattacks.pgd"), or bare.

        A bare name is the built-in entry, else that of the only plugin that has one.

        Raises:
            NameNotFound: with close names, and a word on plugins that failed to load.
            AmbiguousName: several plugins have it; the message lists them.
        """
        known = self._entries[kind]
        for registered in known:
            if name in (registered.qualified, registered.short):
                return registered
        owners = [registered for registered in known if registered.entry.name == name]
        if len(owners) == 1:
            return owners[0]
        if owners:
            candidates = ", ".join(owner.qualified for owner in owners)
            raise AmbiguousName(f"{kind} {name!r} is offered by several plugins; write one of: {candidates}")
        names = {registered.short for registered in known} | {registered.entry.name for registered in known}
        message = f"no {kind} is called {name!r}{suggest(name, names)}"
        if "did you mean" not in message:
            message += f"; `robustkit list {kind}s` shows them all"
        broken = {failure.provider for failure in self._broken}
        if name.partition(".")[0] in broken:
            message += f" (plugin {name.partition('.')[0]!r} is broken: see `robustkit plugins`)"
        raise NameNotFound(message)

    def resolve(self, registered: Registered) -> type[Any]:
        """Import what an entry points to.

        Raises:
            MissingLibrary: an import failed; the message has the line that installs what is missing.
            UsageError: the module has no such attribute.
        """
        module_name, _, attribute = registered.entry.target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            remedy = f"; install it with: pip install {registered.entry.needs}" if registered.entry.needs else ""
            raise MissingLibrary(f"{registered.qualified} cannot be imported: {error}{remedy}") from error
        try:
            component: type[Any] = getattr(module, attribute)
        except AttributeError:
            raise UsageError(
                f"{registered.qualified}: module {module_name} has no {attribute!r}; "
                f"tell the authors of {registered.provider.distribution}"
            ) from None
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
        """Build the component of an entry from parameters."""
        component = self.resolve(registered)
        value = build(component, given, registered.short)
        plain = to_plain(value)
        fields = inspect.signature(component).parameters
        own = [
            f"{key}={_as_text(plain[key])}"
            for key in plain
            if fields[key].default is inspect.Parameter.empty or to_plain_value(fields[key].default) != plain[key]
        ]
        return Component(registered, value, plain, ":".join([registered.short, *own]))

    def _discover(self, version: str, allow: frozenset[str] | None) -> None:
        owners: dict[str, str] = {BUILTIN: "robustkit"}
        for found in _entry_points():
            if allow is not None and found.name not in allow:
                continue
            if found.name in owners:
                error = f"the name {found.name!r} is taken by {owners[found.name]}; uninstall one of the two"
                self._fail(found, "discovery", error)
                continue
            owners[found.name] = found.distribution
            complaint = _requirement_complaint(found, version)
            if complaint:
                self._fail(found, "requirement", complaint)
                continue
            try:
                module = importlib.import_module(found.module)
            except (Exception, SystemExit) as error:
                self._fail(found, "import", _describe(error))
                continue
            self._register(Provider(found.name, found.distribution, found.version, found.module), module)

    def _register(self, provider: Provider, module: ModuleType) -> None:
        found = _Found(provider.name, provider.module, provider.distribution, provider.version, ())
        try:
            self._manager.register(module, name=provider.name)
            self._manager.check_pending()
        except (Exception, SystemExit) as error:
            # pluggy 1.6 keeps a plugin that failed validation
            if self._manager.get_plugin(provider.name) is not None:
                self._manager.unregister(name=provider.name)
            self._fail(found, "registration", _describe(error))
            return
        self._providers.append(provider)
        contributed = False
        for hook, entry_type in HOOKS.items():
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                if implementation.plugin_name == provider.name:
                    contributed = True
                    self._collect(provider, found, hook, entry_type, implementation.function)
        if not contributed:
            error_text = f"no function of {provider.module} is a hook; decorate one with robustkit.hookimpl"
            self._fail(found, "registration", error_text)

    def _collect(self, provider: Provider, found: _Found, hook: str, entry_type: type[Entry], call: Any) -> None:
        """Take the entries of one hook; one bad entry costs that hook of that plugin, nothing more."""
        taken: list[Registered] = []
        names: set[str] = set()
        try:
            for entry in call() or ():
                if not isinstance(entry, entry_type):
                    raise TypeError(f"yields {entry!r}, which is no {entry_type.__name__}")
                if entry.name in names:
                    raise ValueError(f"yields {entry.name!r} twice")
                names.add(entry.name)
                taken.append(Registered(entry, provider))
        except (Exception, SystemExit) as error:
            self._fail(found, hook, _describe(error))
            return
        self._entries[entry_type.kind].extend(taken)

    def _fail(self, found: _Found, stage: str, error: str) -> None:
        self._broken.append(Broken(found.name, found.distribution, found.version, stage, error))


@functools.lru_cache(maxsize=1)
def default_host() -> Host:
    """The host of this process; ROBUSTKIT_PLUGINS="" loads no plugin, "a,b" only those, unset all."""
    wanted = os.environ.get("ROBUSTKIT_PLUGINS")
    allow = None if wanted is None else frozenset(part.strip() for part in wanted.split(",") if part.strip())
    return Host(allow=allow)


def to_plain_value(value: Any) -> Any:
    """A default as it stands in `Component.params`."""
    return list(value) if isinstance(value, tuple) else value


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(_as_text(item) for item in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _own_version() -> str:
    try:
        return metadata.version("robustkit")
    except metadata.PackageNotFoundError:
        return "0"


def _entry_points() -> Iterator[_Found]:
    """Entry points of our group with their distributions, sorted, each once even if twice on the path."""
    seen: set[tuple[str, str]] = set()
    found = []
    for point in metadata.entry_points(group=GROUP):
        distribution = point.dist
        name = distribution.name if distribution else "unknown"
        if (name, point.name) in seen:
            continue
        seen.add((name, point.name))
        requires = tuple(distribution.requires or ()) if distribution else ()
        version = distribution.version if distribution else ""
        found.append(_Found(point.name, point.value, name, version, requires))
    yield from sorted(found, key=lambda f: (f.name, f.distribution))


def _requirement_complaint(found: _Found, version: str) -> str:
    """Why this RobustKit is not the one the plugin was built for, or nothing."""
    for text in found.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.lower() != "robustkit" or (requirement.marker and not requirement.marker.evaluate()):
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            return f"built for robustkit {requirement.specifier}, this is {version}; upgrade one of the two"
    return ""


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def names_of(entries: Iterable[Registered]) -> list[str]:
    """What a user writes for each entry."""
    return [registered.short for registered in entries]
