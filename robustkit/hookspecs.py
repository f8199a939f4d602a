"""Hook specs and entry types: all that a plugin's `__init__` imports. No torch, no pandas.

A plugin is a module named by an entry point of the group "robustkit":

    [project]
    dependencies = ["robustkit>=0.1,<0.2"]

    [project.entry-points.robustkit]
    mine = "my_plugin"

Its hooks take no arguments and yield entries; an entry is data, and names the component by a string that is
imported when it is first used. What the distribution requires of robustkit is checked again when it is loaded; a
module may besides say `ROBUSTKIT_API = 1`, the number of the hooks it was written for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import pluggy

from robustkit.contracts import NORMS, Norm

API = 1
"""Version of the hooks and entries. Within one number hooks and optional fields are only added."""

hookspec = pluggy.HookspecMarker("robustkit")
hookimpl = pluggy.HookimplMarker("robustkit")

Kind = Literal["attack", "defense", "certifier", "detector", "poison", "dataset", "model"]
Knowledge = Literal["white-box", "score", "decision"]
Goal = Literal["budget", "minimal"]
Scope = Literal["model", "dataset", "input"]
Access = Literal["weights", "clean_data", "training_set", "run_time"]

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
        for field in ("name", "target", "summary", "paper", "needs", "notes"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"entry {self.name!r}: {field}={getattr(self, field)!r} is not a text")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"entry name {self.name!r} must match {_NAME.pattern}")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"{self.name}: target {self.target!r} must be 'package.module:Attribute'")
        if not self.summary.strip() or "\n" in self.summary:
            raise ValueError(f"{self.name}: summary must be one non-empty line")


def _check_norms(entry: AttackEntry | CertifierEntry) -> None:
    if isinstance(entry.norms, str) or set(entry.norms) - set(NORMS):
        raise ValueError(f"{entry.name}: norms={entry.norms!r} must be a set of some of {', '.join(NORMS)}")
    object.__setattr__(entry, "norms", frozenset(entry.norms))  # a plain set would leave the entry unhashable


def _check_choice(entry: Entry, field: str, choices: tuple[str, ...]) -> None:
    value = getattr(entry, field)
    if value not in choices:
        raise ValueError(f"{entry.name}: {field}={value!r} is not one of {', '.join(choices)}")


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
    knowledge: Knowledge = "white-box"
    goal: Goal = "budget"
    targeted: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_norms(self)
        _check_choice(self, "knowledge", get_args(Knowledge))
        _check_choice(self, "goal", get_args(Goal))


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
    """A certifier: `(model, x, y) -> Certificate`.

    Args:
        norms: of the radii it can give.
        probabilistic: its promise holds with a probability; otherwise always.
    """

    kind: ClassVar[Kind] = "certifier"

    norms: frozenset[Norm]
    probabilistic: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_norms(self)


@dataclass(frozen=True, kw_only=True)
class DetectorEntry(Entry):
    """A detector: `(model, data) -> Verdict`.

    Args:
        scope: what one verdict is about: the model, each training sample ("dataset"), or each input.
        access: what it may read, which the host enforces by giving it nothing else: "weights" alone, "clean_data"
            (`data.val`), "training_set" (`data.train`, maybe poisoned, and `data.val`), or "run_time" (`data.val`, and
            in `data.test` the inputs to be judged, labelled with the model's predictions). None follows the scope:
            clean data, the training set, run time.
    """

    kind: ClassVar[Kind] = "detector"

    scope: Scope
    access: Access | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice(self, "scope", get_args(Scope))
        if self.access is None:
            by_scope: dict[str, Access] = {"model": "clean_data", "dataset": "training_set", "input": "run_time"}
            object.__setattr__(self, "access", by_scope[self.scope])
        _check_choice(self, "access", get_args(Access))


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
        """Yield the attacks of this plugin; each target is a `robustkit.contracts.Attack`.

        Example:
            from robustkit import AttackEntry, hookimpl

            @hookimpl
            def robustkit_attacks():
                yield AttackEntry(
                    name="sign",
                    target="my_plugin.sign:Sign",
                    summary="One step along the sign of the gradient.",
                    paper="https://arxiv.org/abs/1412.6572",
                    norms=frozenset({"linf"}),
                )
        """
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_defenses(self) -> Iterable[DefenseEntry]:
        """Yield the defenses of this plugin; each target is a `robustkit.contracts.Defense`.

        Example:
            from robustkit import DefenseEntry, hookimpl

            @hookimpl
            def robustkit_defenses():
                yield DefenseEntry(
                    name="clip",
                    target="my_plugin.clip:Clip",
                    summary="Adversarial training with clipped logits.",
                )
        """
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_certifiers(self) -> Iterable[CertifierEntry]:
        """Yield the certifiers of this plugin; each target is a `robustkit.contracts.Certifier`.

        Example:
            from robustkit import CertifierEntry, hookimpl

            @hookimpl
            def robustkit_certifiers():
                yield CertifierEntry(
                    name="lipschitz",
                    target="my_plugin.lipschitz:Lipschitz",
                    summary="Margin over the product of the layers' spectral norms.",
                    norms=frozenset({"l2"}),
                    probabilistic=False,
                )
        """
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_detectors(self) -> Iterable[DetectorEntry]:
        """Yield the detectors of this plugin; each target is a `robustkit.contracts.Detector`.

        Example:
            from robustkit import DetectorEntry, hookimpl

            @hookimpl
            def robustkit_detectors():
                yield DetectorEntry(
                    name="entropy",
                    target="my_plugin.entropy:Entropy",
                    summary="Entropy of the prediction under blends of clean inputs.",
                    scope="input",
                )
        """
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_poisons(self) -> Iterable[PoisonEntry]:
        """Yield the poisons of this plugin; each target is a `robustkit.contracts.Poison`.

        Example:
            from robustkit import PoisonEntry, hookimpl

            @hookimpl
            def robustkit_poisons():
                yield PoisonEntry(
                    name="corner",
                    target="my_plugin.corner:Corner",
                    summary="A white square in the corner, labels set to one class.",
                )
        """
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_datasets(self) -> Iterable[DatasetEntry]:
        """Yield the data sources of this plugin; each target is a `robustkit.contracts.Source`.

        Example:
            from robustkit import DatasetEntry, hookimpl

            @hookimpl
            def robustkit_datasets():
                yield DatasetEntry(
                    name="road_signs",
                    target="my_plugin.signs:RoadSigns",
                    summary="43 classes of road signs, 32 x 32.",
                )
        """
        raise AssertionError("a spec is never called")

    @hookspec
    def robustkit_models(self) -> Iterable[ModelEntry]:
        """Yield the architectures of this plugin; each target is a `robustkit.contracts.Architecture`.

        Example:
            from robustkit import ModelEntry, hookimpl

            @hookimpl
            def robustkit_models():
                yield ModelEntry(
                    name="tiny_vit",
                    target="my_plugin.vit:TinyViT",
                    summary="A vision transformer of 5 million weights.",
                )
        """
        raise AssertionError("a spec is never called")


HOOKS: Mapping[str, type[Entry]] = {
    "robustkit_attacks": AttackEntry,
    "robustkit_defenses": DefenseEntry,
    "robustkit_certifiers": CertifierEntry,
    "robustkit_detectors": DetectorEntry,
    "robustkit_poisons": PoisonEntry,
    "robustkit_datasets": DatasetEntry,
    "robustkit_models": ModelEntry,
}
"""What the entries of each hook are."""

KINDS: tuple[Kind, ...] = get_args(Kind)
