"""Cells of a bench: what is measured, under which key, with which random draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustkit.contracts import Data, Threat
from robustkit.hookspecs import AttackEntry
from robustkit.host import Component, Host
from robustkit.params import UsageError
from robustkit.pipeline.keys import component_content, key_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.spec import BenchSpec

SCHEMA = 1
BLOCK = 200
"""Samples that are attacked together and seeded together. Part of every key, never of the command line: it
decides the random draws, so that memory and number of workers don't."""

ORDER = 0
"""Seed of the order in which test images are judged where not all of them are."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement: a subject's clean predictions, one attack at one threat, or one certifier.

    `stream` names its random draws. It leaves out model, versions, precision and number of samples, so that
    subjects and runs are compared under the same draws, and a run on fewer samples is a part of the full one.
    """

    subject: Subject
    attack: Component | None
    threat: Threat
    key: str
    stream: str
    passes: int | None  # forward and backward passes a sample, an estimate; None where unknown
    certifier: Component | None = None
    surrogate: Subject | None = None  # the network that the attack makes its examples on

    @property
    def kind(self) -> str:
        if self.certifier is not None:
            return "certify"
        return "clean" if self.attack is None else "attack"

    @property
    def component(self) -> Component | None:
        return self.attack or self.certifier

    @property
    def label(self) -> str:
        return "clean" if self.component is None else self.component.label


def check_norm(attack: Component, threat: Threat, host: Host) -> None:
    """Refuse an attack that the norm of the bench does not suit, and name those that it does."""
    entry = attack.entry
    assert isinstance(entry, AttackEntry)
    if not entry.norms or threat.norm in entry.norms:
        return
    fitting = [
        other.short
        for other in host.entries("attack")
        if isinstance(other.entry, AttackEntry) and threat.norm in other.entry.norms
    ]
    raise UsageError(
        f"{attack.registered.short} attacks in {', '.join(sorted(entry.norms))}, the bench is in {threat.norm}; "
        f"these fit: {', '.join(fitting)}"
    )


def scored_at(attack: Component, threats: tuple[Threat, ...]) -> tuple[Threat, ...]:
    """An attack that minimises the distance runs once; its distances are scored at every eps later."""
    entry = attack.entry
    return threats[-1:] if isinstance(entry, AttackEntry) and entry.goal == "minimal" else threats


def cell_of(
    spec: BenchSpec,
    data: Data,
    count: int,
    subject: Subject,
    attack: Component | None,
    threat: Threat,
    earlier: tuple[str, ...],
    surrogate: Subject | None = None,
) -> Cell:
    """Clean predictions (no attack), or one attack; `earlier` are the keys of those before it in a cascade."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "block": BLOCK,
        "subject": subject.key,
        "data": data.fingerprint,
        "count": count,
        "precision": spec.precision,
        **({} if spec.precision_points is None else {"order": ORDER}),
    }
    if attack is not None:
        content |= {
            "attack": component_content(attack),
            "threat": [threat.norm, threat.eps],
            "targets": spec.targets,
            "earlier": list(earlier),
            **({} if spec.eot == 1 else {"eot": spec.eot}),
            **({} if surrogate is None else {"surrogate": surrogate.key}),
            **({} if spec.budget is None else {"what stands of": sorted(spec.attacks)}),
        }
    stream = key_of(
        {
            "attack": None if attack is None else [attack.registered.qualified, dict(attack.params)],
            "threat": [threat.norm, threat.eps],
            "data": data.fingerprint,
            "seed": subject.seed,
        }
    )
    return Cell(
        subject=subject,
        attack=attack,
        threat=threat,
        key=key_of(content),
        stream=stream,
        passes=_estimate(attack),
        surrogate=surrogate,
    )


def certify_cell(data: Data, count: int, subject: Subject, certifier: Component, threat: Threat) -> Cell:
    """A certifier runs once; its radii are scored at every eps later."""
    content = {
        "schema": SCHEMA,
        "block": BLOCK,
        "subject": subject.key,
        "data": data.fingerprint,
        "count": count,
        "certifier": component_content(certifier),
        "norm": threat.norm,
    }
    stream = {
        "certifier": [certifier.registered.qualified, dict(certifier.params)],
        "data": data.fingerprint,
        "seed": subject.seed,
    }
    return Cell(
        subject=subject,
        attack=None,
        certifier=certifier,
        threat=threat,
        key=key_of(content),
        stream=key_of(stream),
        passes=certifier.params.get("n"),
    )


def _estimate(attack: Component | None) -> int | None:
    """Forward and backward passes a sample at most, where the canonical parameters tell."""
    if attack is None:
        return 1
    params = attack.params
    if "queries" in params and params["queries"] is not None:
        return int(params["queries"])
    if "steps" in params and params["steps"] is not None:
        one = 2 * int(params["steps"]) * int(params.get("restarts") or 1)
        every = "classes" in params and params.get("loss", "dlr_targeted") == "dlr_targeted"  # one after the other
        return one * int(params["classes"]) if every else one
    return None
