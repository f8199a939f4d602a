"""From a spec to subjects and cells: everything that will be computed, before anything is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robustkit.contracts import Data, Norm, Recipe, Threat
from robustkit.data.load import load_data
from robustkit.hookspecs import AttackEntry, DefenseEntry
from robustkit.host import Component, Host
from robustkit.params import UsageError
from robustkit.pipeline.certificates import plan_certifier
from robustkit.pipeline.detect import Planted, plant_poison
from robustkit.pipeline.keys import component_content, file_hash, key_of, model_content, recipe_content
from robustkit.pipeline.spec import BenchSpec, apply_recipe
from robustkit.tables import column_names
from robustkit.training import loop

SCHEMA = 1
BLOCK = 200
"""Samples that are attacked together and seeded together. Part of every key, never of the command line: it
decides the random draws, so that memory and number of workers don't."""

BASELINE = "standard"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to be judged.

    Args:
        label: what the table calls it.
        role: "baseline" (undefended), "given" (a checkpoint or a pretrained model) or "defense".
        seed: of its training.
        defense: that trains it, or that is wrapped around the baseline; None for a model that is given.
        checkpoint: weights on disk, or None.
        key: of its content.
    """

    label: str
    role: Literal["baseline", "given", "defense"]
    seed: int
    defense: Component | None
    checkpoint: Path | None
    key: str

    @property
    def wraps(self) -> bool:
        """Whether it is another subject inside a wrapper, rather than trained weights."""
        entry = None if self.defense is None else self.defense.entry
        return isinstance(entry, DefenseEntry) and not entry.trains


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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A spec with everything settled."""

    spec: BenchSpec
    data: Data
    threats: tuple[Threat, ...]
    training_threat: Threat
    recipe: Recipe
    device: str
    count: int  # test samples judged
    subjects: tuple[Subject, ...]
    cells: tuple[Cell, ...]
    key: str
    planted: Planted | None = None

    @property
    def name(self) -> str:
        """What its run directory is called unless the user says otherwise: the same for the same bench."""
        texts = (self.spec.dataset.rpartition("/")[2], self.spec.model.rpartition("/")[2])
        words = [re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[:40] for text in texts]
        return "-".join([*words, self.key[:8]])

    @property
    def columns(self) -> list[str]:
        """The columns of accuracies under attack that its table will have."""
        labels = list(dict.fromkeys(cell.attack.label for cell in self.cells if cell.attack is not None))
        return column_names(labels, [threat.eps for threat in self.threats])

    @property
    def blocks(self) -> int:
        return -(-self.count // BLOCK)

    def resolved(self) -> dict[str, Any]:
        """All that was settled, for spec.toml."""
        providers = {}
        for component in [cell.component for cell in self.cells] + [subject.defense for subject in self.subjects]:
            if component is not None:
                provider = component.registered.provider
                providers[provider.name] = f"{provider.distribution} {provider.version}"
        return {
            "norm": self.threats[0].norm,
            "eps": [threat.eps for threat in self.threats],
            "train_eps": self.training_threat.eps,
            "device": self.device,
            "samples": self.count,
            "block": BLOCK,
            "fingerprint": self.data.fingerprint,
            "recipe": dataclasses.asdict(self.recipe),
            "providers": providers,
            "defenses": {s.label: _plain(s.defense) for s in self.subjects if s.defense is not None},
            "attacks": {c.label: _plain(c.attack) for c in self.cells if c.attack is not None},
            "certifiers": {c.label: _plain(c.certifier) for c in self.cells if c.certifier is not None},
        }


def make_plan(spec: BenchSpec, host: Host) -> Plan:
    """Settle a spec; loads the data, resolves every component, trains and attacks nothing.

    Raises:
        UsageError: whatever would fail later for want of a name, a parameter, a file or a fitting norm.
    """
    data = load_data(spec.dataset, host=host, data_dir=Path(spec.data_dir) if spec.data_dir else None)
    for text in spec.detectors:
        host.build("detector", text)  # a mistake in it is told before anything is trained
    planted = plant_poison(data, spec.poison, spec.seeds[0], host) if spec.poison else None
    data = data if planted is None else planted.data
    threats = _threats(spec, data)
    training_threat = _threat(threats[0].norm, _train_eps(spec, threats, data))
    recipe = apply_recipe(data.recipe, spec.recipe)
    subjects = plan_subjects(spec, data, training_threat, recipe, host)
    return dataclasses.replace(plan_cells(spec, data, subjects, host), planted=planted)


def plan_cells(spec: BenchSpec, data: Data, subjects: list[Subject], host: Host) -> Plan:
    """The plan of a spec whose data and subjects are at hand."""
    threats = _threats(spec, data)
    attacks = [host.build("attack", text) for text in spec.attacks]
    for attack in attacks:
        _check_norm(attack, threats[0], host)
    certifiers = [plan_certifier(text, threats[0], host) for text in spec.certifiers]
    count = len(data.test) if spec.limit is None else min(spec.limit, len(data.test))
    if not count:
        raise UsageError(f"{spec.dataset} has no test samples")
    cells: list[Cell] = []
    for subject in subjects:
        cells.append(_cell(spec, data, count, subject, None, threats[0], ()))
        earlier: list[str] = []
        for attack in attacks:
            for threat in _scored_at(attack, threats):
                cells.append(_cell(spec, data, count, subject, attack, threat, tuple(earlier)))
            if spec.cascade:
                earlier.append(cells[-1].key)
        cells += [_certify_cell(data, count, subject, certifier, threats[-1]) for certifier in certifiers]
    return Plan(
        spec=spec,
        data=data,
        threats=threats,
        training_threat=_threat(threats[0].norm, _train_eps(spec, threats, data)),
        recipe=apply_recipe(data.recipe, spec.recipe),
        device=settle_device(spec.device),
        count=count,
        subjects=tuple(subjects),
        cells=tuple(cells),
        key=key_of({"cells": [cell.key for cell in cells]}),
    )


def external_subject(label: str, seed: int, weights: str) -> Subject:
    """A model that the caller holds; `weights` stands for its content."""
    key = key_of({"weights": weights, "seed": seed})
    return Subject(label=label, role="given", seed=seed, defense=None, checkpoint=None, key=key)


def _threats(spec: BenchSpec, data: Data) -> tuple[Threat, ...]:
    norm = spec.norm or data.threat.norm
    if not spec.eps and norm != data.threat.norm:
        raise UsageError(f"norm={norm} needs an eps; {data.name} usually takes {data.threat}")
    radii = spec.eps or (data.threat.eps,)
    if len(set(radii)) != len(radii):
        raise UsageError(f"eps={list(radii)} holds a value twice")
    if spec.cascade and len(radii) > 1:
        raise UsageError("cascade judges one eps; give a single one, or leave cascade off")
    return tuple(_threat(norm, eps) for eps in sorted(radii))


def _threat(norm: Norm, eps: float) -> Threat:
    try:
        return Threat(norm, eps)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _train_eps(spec: BenchSpec, threats: tuple[Threat, ...], data: Data) -> float:
    """A curve is measured on models that were trained as usual."""
    if spec.train_eps is not None:
        return spec.train_eps
    usual = data.threat if data.threat.norm == threats[0].norm else None
    return usual.eps if usual is not None and len(threats) > 1 else threats[-1].eps


def _check_norm(attack: Component, threat: Threat, host: Host) -> None:
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


def _scored_at(attack: Component, threats: tuple[Threat, ...]) -> tuple[Threat, ...]:
    """An attack that minimises the distance runs once; its distances are scored at every eps later."""
    entry = attack.entry
    return threats[-1:] if isinstance(entry, AttackEntry) and entry.goal == "minimal" else threats


def plan_subjects(spec: BenchSpec, data: Data, threat: Threat, recipe: Recipe, host: Host) -> list[Subject]:
    """The models of a bench, what is wrapped before its wrappers."""
    model = model_content(spec.model, data, host)
    wanted = [host.build("defense", text) for text in spec.defenses]
    checkpoint = Path(spec.checkpoint) if spec.checkpoint else None
    subjects: list[Subject] = []
    for seed in spec.seeds:
        base: Subject
        if checkpoint is not None or spec.pretrained:
            trained = [c for c in wanted if isinstance(c.entry, DefenseEntry) and c.entry.trains]
            if trained:
                raise UsageError(
                    f"{trained[0].label} trains a model, {spec.checkpoint or spec.model} is one already; "
                    "leave one of the two out"
                )
            content = {"checkpoint": file_hash(checkpoint) if checkpoint else None, "model": model}
            label = checkpoint.stem if checkpoint else spec.model
            base = Subject(
                label=label, role="given", seed=seed, defense=None, checkpoint=checkpoint, key=key_of(content)
            )
            subjects.append(base)
        else:
            base = _trained(host.build("defense", BASELINE), seed, model, data, threat, recipe)
            wraps = any(isinstance(c.entry, DefenseEntry) and not c.entry.trains for c in wanted)
            if spec.baseline or wraps or not wanted:
                subjects.append(base)
        for component in wanted:
            if isinstance(component.entry, DefenseEntry) and not component.entry.trains:
                content = {"wraps": base.key, "defense": component_content(component)}
                subjects.append(
                    Subject(
                        label=component.label,
                        role="defense",
                        seed=seed,
                        defense=component,
                        checkpoint=None,
                        key=key_of(content),
                    )
                )
            elif component.label != base.label or not any(s.key == base.key for s in subjects):
                subjects.append(_trained(component, seed, model, data, threat, recipe))
    return subjects


def _trained(
    defense: Component, seed: int, model: Mapping[str, Any], data: Data, threat: Threat, recipe: Recipe
) -> Subject:
    undefended = defense.registered.qualified == f"robustkit.{BASELINE}"
    content: Mapping[str, Any] = {
        "defense": component_content(defense),
        "model": dict(model),
        "data": data.fingerprint,
        # ordinary training does not depend on the threat, so its weights serve all of them
        "threat": None if undefended else [threat.norm, threat.eps],
        "recipe": recipe_content(recipe),
        "seed": seed,
        "loop": loop.VERSION,
    }
    return Subject(
        label=defense.label,
        role="baseline" if undefended else "defense",
        seed=seed,
        defense=defense,
        checkpoint=None,
        key=key_of(content),
    )


def _cell(
    spec: BenchSpec,
    data: Data,
    count: int,
    subject: Subject,
    attack: Component | None,
    threat: Threat,
    earlier: tuple[str, ...],
) -> Cell:
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "block": BLOCK,
        "subject": subject.key,
        "data": data.fingerprint,
        "count": count,
        "precision": spec.precision,
    }
    if attack is not None:
        content |= {
            "attack": component_content(attack),
            "threat": [threat.norm, threat.eps],
            "targets": spec.targets,
            "earlier": list(earlier),
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
    )


def _certify_cell(data: Data, count: int, subject: Subject, certifier: Component, threat: Threat) -> Cell:
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
        return 2 * int(params["steps"]) * int(params.get("restarts") or 1)
    return None


def settle_device(wanted: str) -> str:
    """The device of "auto", or the one that is named.

    Raises:
        UsageError: it is none, or this torch does not see it.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(f"device={wanted!r} is none: {str(error).splitlines()[0]}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device={wanted}: this torch sees no CUDA device; use --device cpu")
    return wanted


def _plain(component: Component | None) -> dict[str, Any]:
    if component is None:
        return {}
    params = {key: value for key, value in component.params.items() if value is not None}
    return {"name": component.registered.qualified, **params}
