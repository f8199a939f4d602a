"""The models of a bench: trained, wrapped or given, each with the key of its content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robustkit.contracts import Data, Recipe, Threat
from robustkit.hookspecs import DefenseEntry
from robustkit.host import Component, Host
from robustkit.params import UsageError
from robustkit.pipeline.keys import component_content, file_hash, key_of, model_content, recipe_content
from robustkit.pipeline.spec import BenchSpec
from robustkit.training import loop

BASELINE = "standard"
_WEIGHTS = (".safetensors", ".pt", ".pth")


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


def plan_surrogate(
    attack: Component,
    spec: BenchSpec,
    data: Data,
    threat: Threat,
    recipe: Recipe,
    subjects: Sequence[Subject],
    host: Host,
) -> Subject | None:
    """The network that an attack with a method `on` wants; None for every other attack.

    Args:
        attack: has fields `surrogate`, a defense by its name or the path of weights, and `seed`.
        spec, data, threat, recipe: what it is trained with, if it is trained.
        subjects: the models that are attacked.

    Raises:
        UsageError: no such defense or file, nothing to train it on, or it is one of the models that are attacked.
    """
    if not hasattr(attack.value, "on"):
        return None
    wanted, seed, name = attack.value.surrogate, attack.value.seed, attack.registered.short
    path = Path(wanted).expanduser()
    if path.suffix in _WEIGHTS:
        text = provenance(path).get("model", spec.model)
        content = {"checkpoint": file_hash(path), "model": model_content(text, data, host)}
        found = Subject(label=path.stem, role="given", seed=seed, defense=None, checkpoint=path, key=key_of(content))
    else:
        defense = host.build("defense", wanted)
        assert isinstance(defense.entry, DefenseEntry)
        if not defense.entry.trains:
            raise UsageError(f"{name}: surrogate={wanted} wraps a model and trains none; name one that is trained")
        if not len(data.train):
            raise UsageError(
                f"{name}: there are no training images for surrogate={wanted}; name a file of weights, or use a bench"
            )
        if spec.pretrained:
            raise UsageError(
                f"{name}: surrogate={wanted} would begin at the weights of {spec.model}; name a file of weights"
            )
        found = _trained(defense, seed, model_content(spec.model, data, host), data, threat, recipe)
    itself = [subject.label for subject in subjects if subject.key == found.key]
    if itself:
        raise UsageError(
            f"{name}: surrogate={wanted} is {itself[0]} itself, which is attacked; give another seed or file"
        )
    return found


def provenance(path: Path) -> dict[str, Any]:
    """The provenance beside weights; empty where there is none."""
    note = path.with_suffix(".json")
    if not note.is_file():
        return {}
    content: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return content


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


def external_subject(label: str, seed: int, weights: str) -> Subject:
    """A model that the caller holds; `weights` stands for its content."""
    key = key_of({"weights": weights, "seed": seed})
    return Subject(label=label, role="given", seed=seed, defense=None, checkpoint=None, key=key)
