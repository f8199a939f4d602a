"""Hook specs and entry types: all that a plugin's `__init__` imports. No torch, no pandas.

A plugin is a module named by an entry point of the group "robustkit". Its hooks take no arguments and yield
entries; an entry is data, and names the component by a string that is imported when it is first used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import pluggy

from robustkit.contracts import NORMS, Norm

API = 1
"""Version of the hooks and entries. Within one number entries only gain optional fields."""

hookspec = pluggy.HookspecMarker("robustkit")
hookimpl = pluggy.HookimplMarker("robustkit")

Kind = Literal["attack", "defense", "certifier", "detector", "poison", "dataset", "model"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One component that a plugin offers.

    Args:
        name: lower case, digits and underscores; the host puts the provider's name before it.
        target: "package.module:Attr", a frozen dataclass whose fields are the parameters.
        summary: one line for `robustkit list`.
        paper: URL or arXiv id of the source.
        needs: distributions to install where the import of the target fails, e.g. "torchattacks".
        notes: what a user must know before quoting a number (known deviations, limits).

    Raises:
        ValueError: name or target malformed, summary empty or longer than a line.
    """

    kind: ClassVar[Kind]

    name: str
    target: str
    summary: str
    paper: str = ""
    needs: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"entry name {self.name!r} must match {_NAME.pattern}")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"{self.name}: target {self.target!r} must be 'package.module:Attribute'")
        if not self.summary.strip() or "\n" in self.summary:
            raise ValueError(f"{self.name}: summary must be one non-empty line")


def _check_norms(name: str, norms: frozenset[Norm]) -> None:
    unknown = set(norms) - set(NORMS)
    if unknown:
        raise ValueError(f"{name}: norms {sorted(unknown)} are not among {', '.join(NORMS)}")


@dataclass(frozen=True, kw_only=True)
class AttackEntry(Entry):
    """An attack: `(model, x, y, threat) -> x_adv`.

    Args:
        norms: threat models it can be asked for; empty is "any" (it obeys no ball and is scored by distance).
        knowledge: what it must know of the model: gradients, scores, or decisions alone.
        goal: "budget" searches inside the ball, "minimal" minimises the distance and ignores eps.
        targeted: whether it has a parameter `targeted`.
        deterministic: same inputs, same result, whatever the random state.
    """

    kind: ClassVar[Kind] = "attack"

    norms: frozenset[Norm]
    knowledge: Literal["white-box", "score", "decision"] = "white-box"
    goal: Literal["budget", "minimal"] = "budget"
    targeted: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_norms(self.name, self.norms)


@dataclass(frozen=True, kw_only=True)
class DefenseEntry(Entry):
    """A defense: `(model, data, training) -> model`.

    Args:
        trains: trains weights (its result is cached); otherwise it wraps the trained baseline.
        obfuscates: hides gradients or draws random numbers at inference; the bench warns.
    """

    kind: ClassVar[Kind] = "defense"

    trains: bool = True
    obfuscates: bool = False


@dataclass(frozen=True, kw_only=True)
class CertifierEntry(Entry):
    """A certifier: `(model, x, y) -> Certificate`."""

    kind: ClassVar[Kind] = "certifier"

    norms: frozenset[Norm]
    probabilistic: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_norms(self.name, self.norms)


@dataclass(frozen=True, kw_only=True)
class DetectorEntry(Entry):
    """A detector: `(model, data) -> Verdict`; scope says what one verdict is about."""

    kind: ClassVar[Kind] = "detector"

    scope: Literal["model", "dataset", "input"]


@dataclass(frozen=True, kw_only=True)
class PoisonEntry(Entry):
    """A poison: training set → poisoned set, with its trigger."""

    kind: ClassVar[Kind] = "poison"


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(Entry):
    """A data source: `(data_dir) -> Data`."""

    kind: ClassVar[Kind] = "dataset"


@dataclass(frozen=True, kw_only=True)
class ModelEntry(Entry):
    """An architecture: `(shape, classes) -> nn.Module`."""

    kind: ClassVar[Kind] = "model"


class Specs:
    """The hooks. A plugin implements any of them as module-level functions decorated with `hookimpl`."""

    @hookspec
    def robustkit_attacks(self) -> Iterable[AttackEntry]:
        """Yield the attacks of this plugin."""
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_defenses(self) -> Iterable[DefenseEntry]:
        """Yield the defenses of this plugin."""
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_certifiers(self) -> Iterable[CertifierEntry]:
        """Yield the certifiers of this plugin."""
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_detectors(self) -> Iterable[DetectorEntry]:
        """Yield the detectors of this plugin."""
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_poisons(self) -> Iterable[PoisonEntry]:
        """Yield the poisons of this plugin."""
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_datasets(self) -> Iterable[DatasetEntry]:
        """Yield the data sources of this plugin."""
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_models(self) -> Iterable[ModelEntry]:
        """Yield the architectures of this plugin."""
        raise AssertionError("a spec is never called")
