"""Models to be judged: loaded, trained, wrapped, or taken from the cache."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from robustkit.contracts import Training, TrainingProgress
from robustkit.engine.guard import generators_kept
from robustkit.files import copy_atomically, write_atomically
from robustkit.host import Host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint, save_weights, weights_hash
from robustkit.params import UsageError
from robustkit.pipeline.environment import environment
from robustkit.pipeline.keys import component_content
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import ModelCache
from robustkit.precision import Chosen, choose_precision
from robustkit.training import history
from robustkit.training.team import Team, team

Report = Callable[[TrainingProgress], None]


class TrainingFailed(Exception):
    """A defense could not be trained or wrapped; `__cause__` says why. Its cells are errors, the others go on."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A subject ready to be judged.

    Args:
        subject: which.
        model: in eval mode, on the plan's device.
        about: its provenance, with the hash of its weights and the seconds its training took.
        cached: it had been trained before.
    """

    subject: Subject
    model: nn.Module
    about: dict[str, Any]
    cached: bool


def build_subject(
    subject: Subject,
    plan: Plan,
    host: Host,
    cache: ModelCache,
    directory: Path | None,
    *,
    report: Report | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> Built:
    """Load, wrap or train a subject.

    What is judged are the weights as they were written and read again, whether they were trained now or a
    year ago.

    Args:
        subject: of the plan.
        plan: gives data, recipe, threat and device.
        host: where architectures are looked up.
        cache: of trained weights.
        directory: a run directory that gets a copy of weights and provenance, and is asked before the cache.
        report: told about training.
        waiting: called where another process trains the same model.

    Raises:
        UsageError: the model cannot be built, or a checkpoint does not fit it.
        TrainingFailed: the defense failed.
    """
    if subject.wraps:
        return _wrapped(subject, plan, host, cache, directory, report, waiting)
    model = build_model(plan.spec.model, plan.data, host=host, seed=subject.seed)
    if subject.defense is None:
        if subject.checkpoint is not None:
            load_checkpoint(model, subject.checkpoint)
        about = {
            "checkpoint": None if subject.checkpoint is None else str(subject.checkpoint),
            "weights": weights_hash(model),
            "training_seconds": None,
        }
        return Built(subject, model.to(plan.device).eval(), about, True)
    crew = team(plan.device)
    if not crew.first:
        return _helped(model, subject, plan, cache, directory, crew)
    kept = None if directory is None else _kept(subject, directory)
    if kept is not None:
        crew.told([0.0], torch.device(plan.device))
        path, about = kept
        load_checkpoint(model, path)
        crew.wait()
        return Built(subject, model.to(plan.device).eval(), about, True)
    with cache.lock(subject.key, waiting):
        found = cache.provenance(subject.key)
        about = _train(model, subject, plan, cache, report) if found is None else found
        if found is not None:
            crew.told([0.0], torch.device(plan.device))
    if found is None:
        model = build_model(plan.spec.model, plan.data, host=host, seed=subject.seed)
    load_checkpoint(model, cache.weights(subject.key))
    if directory is not None:
        _keep(subject, cache, about, directory)
    crew.wait()
    return Built(subject, model.to(plan.device).eval(), about, found is not None)


def _helped(
    model: nn.Module, subject: Subject, plan: Plan, cache: ModelCache, directory: Path | None, crew: Team
) -> Built:
    """What the other processes of a training do: their part of it, and nothing on disk."""
    assert subject.defense is not None
    trains = bool(crew.told([0.0], torch.device(plan.device))[0])
    if trains:
        folder = cache.training(subject.key)
        training = _training(subject, plan, folder, _precision(model, plan, folder), None)
        with generators_kept(subject.seed):
            subject.defense.value(model, plan.data, training)
    crew.wait()
    kept = None if directory is None else _kept(subject, directory)
    path, about = kept or (cache.weights(subject.key), cache.provenance(subject.key) or {})
    if not path.is_file():
        remedy = "put ROBUSTKIT_CACHE on a file system that all machines share"
        raise UsageError(f"{path}, which the first process has written, is not to be seen here; {remedy}")
    load_checkpoint(model, path)
    return Built(subject, model.to(plan.device).eval(), about, not trains)


def _wrapped(
    subject: Subject,
    plan: Plan,
    host: Host,
    cache: ModelCache,
    directory: Path | None,
    report: Report | None,
    waiting: Callable[[], None],
) -> Built:
    # the plan has what is wrapped among its subjects, one a seed
    base = next(other for other in plan.subjects if other.seed == subject.seed and other.role != "defense")
    inner = build_subject(base, plan, host, cache, directory, report=report, waiting=waiting)
    assert subject.defense is not None
    training = _training(subject, plan, None, "fp32", report)
    try:
        with generators_kept(subject.seed), torch.enable_grad():
            model = subject.defense.value(inner.model, plan.data, training).to(plan.device).eval()
    except (Exception, SystemExit) as error:
        raise TrainingFailed(f"{subject.label} failed") from error
    return Built(subject, model, {**inner.about, "wrapped in": subject.label}, inner.cached)


def _train(model: nn.Module, subject: Subject, plan: Plan, cache: ModelCache, report: Report | None) -> dict[str, Any]:
    """Train `model`, and put weights and provenance into the cache."""
    assert subject.defense is not None
    folder = cache.training(subject.key)
    names = set(model.state_dict())
    clock = _Clock(folder, report)
    training = _training(subject, plan, folder, _precision(model, plan, folder), clock)
    team(plan.device).told([1.0], torch.device(plan.device))  # the others may begin
    try:
        with generators_kept(subject.seed):
            trained = subject.defense.value(model, plan.data, training).to("cpu")
        if set(trained.state_dict()) != names:
            raise UsageError(
                f"{subject.label} returned a network with other weights than the one it was given, which cannot "
                "be stored; its entry must say trains=False"
            )
    except (Exception, SystemExit) as error:
        raise TrainingFailed(f"{subject.label} failed") from error
    save_weights(trained, cache.weights(subject.key))
    about = {
        "key": subject.key,
        "defense": component_content(subject.defense),
        "label": subject.label,
        "seed": subject.seed,
        "model": plan.spec.model,
        "dataset": {"name": plan.data.name, "fingerprint": plan.data.fingerprint},
        "shape": list(plan.data.shape),
        "classes": list(plan.data.classes),
        "mean": list(plan.data.mean),
        "std": list(plan.data.std),
        "threat": {"norm": plan.training_threat.norm, "eps": plan.training_threat.eps},
        "recipe": dataclasses.asdict(plan.recipe),
        "precision": training.precision,
        "weights": weights_hash(trained),
        "training_seconds": round(clock.seconds(), 3),
        "collapsed": clock.collapsed,
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(plan.device),
    }
    cache.describe(subject.key, about)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return about


def _training(subject: Subject, plan: Plan, folder: Path | None, precision: Chosen, report: Report | None) -> Training:
    return Training(
        threat=plan.training_threat,
        recipe=plan.recipe,
        seed=subject.seed,
        device=plan.device,
        precision=precision,
        directory=folder,
        report=report,
    )


def _precision(model: nn.Module, plan: Plan, folder: Path) -> Chosen:
    """The fastest precision, measured once a training: one that is resumed must go on in the same."""
    note = folder / "precision"
    known = note.read_text() if note.is_file() else ""
    for precision in get_args(Chosen):
        if known == precision:
            chosen: Chosen = precision
            return chosen
    example, _ = plan.data.train.batch(torch.arange(min(64, len(plan.data.train))))
    chosen = choose_precision(model.to(plan.device), example.to(plan.device), "auto")
    write_atomically(note, chosen.encode())
    return chosen


class _Clock:
    """Adds up what a training took over the processes it took place in, and passes its progress on.

    `collapsed` are the epochs, from 1, in which its robust accuracy collapsed.
    """

    def __init__(self, folder: Path, report: Report | None) -> None:
        self._note = folder / "seconds"
        self._fallen = folder / "collapsed"
        self._before = float(self._note.read_text()) if self._note.is_file() else 0.0
        self.collapsed: list[int] = json.loads(self._fallen.read_text()) if self._fallen.is_file() else []
        self._report = report
        self._began = time.perf_counter()
        self._epoch = 0

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._began

    def __call__(self, progress: TrainingProgress) -> None:
        if progress.epoch > self._epoch:
            self._epoch = progress.epoch
            write_atomically(self._note, f"{self.seconds():.3f}".encode())
        if "collapsed" in progress.metrics and progress.epoch not in self.collapsed:
            self.collapsed.append(progress.epoch)
            write_atomically(self._fallen, json.dumps(self.collapsed).encode())
        if self._report is not None:
            self._report(progress)


def kept_path(label: str, seed: int, directory: Path) -> Path:
    """Where a run directory has the weights of a subject; the provenance lies beside, with suffix .json."""
    return directory / "models" / f"{file_name(label)}-seed{seed}.safetensors"


def _kept(subject: Subject, directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """Weights and provenance that the run directory has of just this subject."""
    path = kept_path(subject.label, subject.seed, directory)
    note = path.with_suffix(".json")
    if not path.is_file() or not note.is_file():
        return None
    about: dict[str, Any] = json.loads(note.read_text())
    return (path, about) if about.get("key") == subject.key else None


def _keep(subject: Subject, cache: ModelCache, about: dict[str, Any], directory: Path) -> None:
    """Give the run directory weights, provenance, the table of epochs and TensorBoard events."""
    target = kept_path(subject.label, subject.seed, directory)
    note = target.with_suffix(".json")
    note.unlink(missing_ok=True)  # until it is there again, the weights beside it count for nothing
    copy_atomically(cache.weights(subject.key), target)
    write_atomically(note, json.dumps(about, indent=2).encode())
    epochs = cache.training(subject.key) / history.NAME
    if epochs.is_file():
        copy_atomically(epochs, target.with_suffix(".training.csv"))
    events = cache.training(subject.key) / "tensorboard"
    if events.is_dir():
        shutil.copytree(events, directory / "tensorboard" / target.stem, dirs_exist_ok=True)


def file_name(label: str) -> str:
    """A label as a file name: "pgd_at:steps=5" → "pgd_at-steps-5"."""
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in label)
