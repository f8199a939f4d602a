"""From a spec to subjects and cells: everything that will be computed, before anything is."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustkit.contracts import Data, Recipe, Threat
from robustkit.data.load import load_data
from robustkit.hookspecs import DetectorEntry
from robustkit.host import Component, Host
from robustkit.params import UsageError
from robustkit.pipeline.cells import BLOCK, Cell, cell_of, certify_cell, check_norm, scored_at
from robustkit.pipeline.certificates import plan_certifier
from robustkit.pipeline.detect import Planted, plant_poison
from robustkit.pipeline.keys import key_of
from robustkit.pipeline.lineup import Subject, plan_subjects, plan_surrogate
from robustkit.pipeline.portfolio import portfolio
from robustkit.pipeline.spec import BenchSpec, apply_recipe
from robustkit.pipeline.threats import threat_of, threats_of, train_eps
from robustkit.tables import column_names

_KEPT, _KEPT_VALUES = 500, 20_000_000
"""Test samples whose adversarial inputs are kept at most, and pixel values, so that large images don't fill a disk."""


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
    kept: int = 0  # of how many test samples what attacks make of them is kept, for detectors of inputs

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
    asked = [host.build("detector", text) for text in spec.detectors]  # a mistake is told before anything is trained
    planted = plant_poison(data, spec.poison, spec.seeds[0], host) if spec.poison else None
    data = data if planted is None else planted.data
    threats = threats_of(spec, data)
    training_threat = threat_of(threats[0].norm, train_eps(spec, threats, data))
    recipe = apply_recipe(data.recipe, spec.recipe)
    subjects = plan_subjects(spec, data, training_threat, recipe, host)
    plan = plan_cells(spec, data, subjects, host)
    judge = any(isinstance(one.entry, DetectorEntry) and one.entry.scope == "input" for one in asked)
    if judge and (spec.budget is not None or spec.precision_points is not None):
        raise UsageError(
            "detectors of inputs judge what every attack makes of the same images; budget and precision_points attack "
            "some of them only, so leave one or the other out"
        )
    most = max(1, _KEPT_VALUES // math.prod(data.shape))
    return dataclasses.replace(plan, planted=planted, kept=min(_KEPT, most, plan.count) if judge else 0)


def plan_cells(spec: BenchSpec, data: Data, subjects: list[Subject], host: Host) -> Plan:
    """The plan of a spec whose data and subjects are at hand."""
    threats = threats_of(spec, data)
    if spec.budget is not None and not spec.attacks:
        spec = dataclasses.replace(spec, attacks=portfolio(threats[0].norm, len(data.classes)))
    attacks = [host.build("attack", text) for text in spec.attacks]
    for attack in attacks:
        check_norm(attack, threats[0], host)
    if spec.precision_points is not None and (len({s.label for s in subjects}) < 2 or not attacks):
        raise UsageError(
            "precision_points compares the robust accuracies of models; give it two or more, and an attack"
        )
    certifiers = [plan_certifier(text, threats[0], host) for text in spec.certifiers]
    count = len(data.test) if spec.limit is None else min(spec.limit, len(data.test))
    if not count:
        raise UsageError(f"{spec.dataset} has no test samples")
    cells: list[Cell] = []
    training_threat = threat_of(threats[0].norm, train_eps(spec, threats, data))
    recipe = apply_recipe(data.recipe, spec.recipe)
    surrogates = [plan_surrogate(a, spec, data, training_threat, recipe, subjects, host) for a in attacks]
    for subject in subjects:
        cells.append(cell_of(spec, data, count, subject, None, threats[0], ()))
        earlier: list[str] = []
        for attack, surrogate in zip(attacks, surrogates, strict=True):
            for threat in scored_at(attack, threats):
                cells.append(cell_of(spec, data, count, subject, attack, threat, tuple(earlier), surrogate))
            if spec.cascade and spec.budget is None:
                earlier.append(cells[-1].key)
        cells += [certify_cell(data, count, subject, certifier, threats[-1]) for certifier in certifiers]
    return Plan(
        spec=spec,
        data=data,
        threats=threats,
        training_threat=training_threat,
        recipe=recipe,
        device=settle_device(spec.device),
        count=count,
        subjects=tuple(subjects),
        cells=tuple(cells),
        key=key_of({"cells": [cell.key for cell in cells]}),
    )


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
