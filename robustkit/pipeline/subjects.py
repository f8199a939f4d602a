"""Models to be judged: loaded, trained, or taken from the cache."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustkit.contracts import Training, TrainingProgress
from robustkit.host import Host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint, save_weights, weights_hash
from robustkit.params import UsageError
from robustkit.pipeline.environment import environment
from robustkit.pipeline.keys import component_content
from robustkit.pipeline.plan import Plan, Subject
from robustkit.pipeline.store import ModelCache, write_atomically

Report = Callable[[TrainingProgress], None]


@dataclasses.dataclass(frozen=True)
class Built:
    """A subject ready to be judged. `about`: its provenance, with the seconds its training took."""

    model: nn.Module
    about: dict[str, Any]
    cached: bool


def build_subject(
    subject: Subject,
    plan: Plan,
    host: Host,
    cache: ModelCache,
    directory: Path | None,
    report: Report | None = None,
) -> Built:
    """Load, wrap or train a subject.

    Args:
        subject: of the plan.
        plan: gives data, recipe, threat and device.
        host: where architectures are looked up.
        cache: of trained weights.
        directory: a run directory that gets a copy of weights and provenance; None: no copy.
        report: told about training.
    """
    if subject.wraps:
        base = next(
            other for other in plan.subjects if other.seed == subject.seed and not other.wraps
        )  # the plan puts what is wrapped first
        inner = build_subject(base, plan, host, cache, directory, report)
        assert subject.defense is not None
        model = subject.defense.value(inner.model, plan.data, _training(subject, plan, None, report))
        return Built(model.to(plan.device).eval(), {**inner.about, "wrapped in": subject.label}, inner.cached)
    model = build_model(plan.spec.model, plan.data, host=host, seed=subject.seed)
    if subject.checkpoint is not None:
        load_checkpoint(model, subject.checkpoint)
        about = {"checkpoint": str(subject.checkpoint), "weights": weights_hash(model), "training_seconds": None}
        return Built(model.to(plan.device).eval(), about, True)
    with cache.lock(subject.key):
        found = cache.provenance(subject.key)
        if found is None:
            about = _train(model, subject, plan, cache, report)
        else:
            about = found
            load_checkpoint(model, cache.weights(subject.key))
    if directory is not None:
        _keep(subject, cache, about, directory)
    return Built(model.to(plan.device).eval(), about, found is not None)


def _train(
    model: nn.Module, subject: Subject, plan: Plan, cache: ModelCache, report: Report | None
) -> dict[str, Any]:
    """Train, put the weights into the cache, and leave them in `model`."""
    assert subject.defense is not None
    folder = cache.training(subject.key)
    began = time.perf_counter()
    trained = subject.defense.value(model, plan.data, _training(subject, plan, folder, report)).to("cpu")
    seconds = time.perf_counter() - began
    if set(trained.state_dict()) != set(model.state_dict()):
        raise UsageError(
            f"{subject.label} returned a network with other weights than the one it was given, which cannot be "
            "stored; its entry must say trains=False"
        )
    model.load_state_dict(trained.state_dict())
    save_weights(model, cache.weights(subject.key), {"robustkit": subject.label})
    about = {
        "defense": component_content(subject.defense),
        "label": subject.label,
        "seed": subject.seed,
        "model": plan.spec.model,
        "dataset": {"name": plan.data.name, "fingerprint": plan.data.fingerprint},
        "threat": {"norm": plan.training_threat.norm, "eps": plan.training_threat.eps},
        "recipe": dataclasses.asdict(plan.recipe),
        "weights": weights_hash(model),
        "training_seconds": round(seconds, 3),
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(plan.device),
    }
    cache.describe(subject.key, about)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return about


def _training(subject: Subject, plan: Plan, folder: Path | None, report: Report | None) -> Training:
    return Training(
        threat=plan.training_threat,
        recipe=plan.recipe,
        seed=subject.seed,
        device=plan.device,
        precision=plan.spec.precision,
        directory=folder,
        report=report,
    )


def _keep(subject: Subject, cache: ModelCache, about: dict[str, Any], directory: Path) -> None:
    """Copy weights, provenance and TensorBoard events into the run directory."""
    name = f"{file_name(subject.label)}-seed{subject.seed}"
    target = directory / "models" / f"{name}.safetensors"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        shutil.copyfile(cache.weights(subject.key), part)
        part.replace(target)
    write_atomically(target.with_suffix(".json"), json.dumps(about, indent=2).encode())
    events = cache.training(subject.key) / "tensorboard"
    if events.is_dir():
        shutil.copytree(events, directory / "models" / name / "tensorboard", dirs_exist_ok=True)


def file_name(label: str) -> str:
    """A label as a file name: "pgd_at:steps=5" → "pgd_at-steps-5"."""
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in label)


def on_device(x: torch.Tensor, plan: Plan) -> torch.Tensor:
    return x.to(plan.device)
