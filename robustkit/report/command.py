"""A bench as one command line."""

from __future__ import annotations

import shlex
from pathlib import Path

from robustkit.pipeline.spec import BenchSpec
from robustkit.values import as_text


def command_line(directory: Path) -> str | None:
    """What to type to measure again what a run directory holds; None where it says not what was asked.

    What options cannot say is read from the run's own spec.toml.
    """
    path = directory / "spec.toml"
    if not path.is_file():
        return None
    spec = BenchSpec.from_toml(path)
    named = (*spec.defenses, *spec.attacks, *spec.certifiers, *spec.detectors)
    if any("," in text for text in named):
        return shlex.join(["robustkit", "bench", "--config", str(path)])
    return shlex.join(["robustkit", "bench", *options(spec)])


def options(spec: BenchSpec) -> list[str]:
    """The options of `robustkit bench` for this spec; those with their usual value are left out."""
    usual = BenchSpec()
    words: list[str] = []
    if spec.defenses:
        words += ["--defense", ",".join(spec.defenses)]
    if spec.attacks:
        words += ["--attacks", ",".join(spec.attacks)]
    if spec.certifiers:
        words += ["--certifiers", ",".join(spec.certifiers)]
    if spec.poison:
        words += ["--poison", spec.poison]
    if spec.detectors:
        words += ["--detectors", ",".join(spec.detectors)]
    if spec.budget is not None:
        words += ["--budget", f"{spec.budget:g}s"]
    if spec.precision_points is not None:
        words += ["--precision-points", f"{spec.precision_points:g}"]
    for name in ("dataset", "model", "checkpoint", "norm", "train_eps", "limit"):
        value = getattr(spec, name)
        if value != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", as_text(value)]
    if spec.eps:
        words += ["--eps", ",".join(as_text(eps) for eps in spec.eps)]
    if spec.seeds != usual.seeds:
        words += ["--seeds", ",".join(map(str, spec.seeds))]
    fields = dict(spec.recipe)
    if "epochs" in fields:
        words += ["--epochs", as_text(fields.pop("epochs"))]
    if fields:
        words += ["--recipe", ":".join(f"{key}={as_text(value)}" for key, value in fields.items())]
    for name in ("targets", "eot", "device", "precision", "batch_size", "data_dir"):
        value = getattr(spec, name)
        if value != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", as_text(value)]
    if spec.pretrained:
        words.append("--pretrained")
    if spec.cascade:
        words.append("--cascade")
    if not spec.baseline:
        words.append("--no-baseline")
    return words
