"""Certificates of several models at several noise levels: `robustkit.certify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from robustkit.engine.certify import certified, summary
from robustkit.executors.choose import executor_of
from robustkit.executors.pool import Executor
from robustkit.files import write_atomically
from robustkit.host import Component, Host, default_host
from robustkit.params import UsageError, as_text
from robustkit.pipeline.certified_rows import Asked, Sheet, certify_rows
from robustkit.pipeline.distribute import Base, distribute
from robustkit.pipeline.ending import terminable
from robustkit.pipeline.events import Listener, SubjectReady, ignore
from robustkit.pipeline.keys import key_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan, make_plan
from robustkit.pipeline.schedule import UNKNOWN
from robustkit.pipeline.spec import BenchSpec, component_text
from robustkit.pipeline.store import ModelCache, RunStore
from robustkit.pipeline.subjects import Built
from robustkit.pipeline.tasks import SheetTask
from robustkit.pipeline.told import build_told
from robustkit.report.certified_curves import Curve, certified_curves

RUNS = Path("runs")


@dataclass(frozen=True)
class Certification:
    """What came of a certification.

    Args:
        table: a row a model and noise level: counts, both mean radii, passes and seconds, and certified accuracy
            at each radius.
        rows: per-sample columns by (model, seed, certifier).
        guarantee: what each certifier promises.
        directory: holds rows/*.csv, table.csv and table.md, curves.svg and curves.png.
    """

    table: pd.DataFrame
    rows: Mapping[tuple[str, int, str], Mapping[str, np.ndarray]] = field(repr=False)
    guarantee: Mapping[str, str]
    directory: Path


@terminable()
def certify(
    defenses: Sequence[str | Mapping[str, Any]] | str = (),
    *,
    checkpoints: Sequence[str | Path] = (),
    sigma: Sequence[float] = (),
    radii: Sequence[float] = (),
    certifier: str | Mapping[str, Any] = "smoothing",
    directory: str | Path | None = None,
    host: Host | None = None,
    listen: Listener = ignore,
    executor: str = "local",
    workers: int | None = None,
    **settings: Any,
) -> Certification:
    """Train or load models and certify them; what `robustkit certify` does.

    Every image's row is on disk as soon as its group of images is done; a call that was killed goes on
    from there and ends in the same rows.

    Args:
        defenses: to be trained: texts ("noise:sigma=0.25") or tables. None with checkpoints, else the baseline.
        checkpoints: weights of trained models.
        sigma: noise levels, each a row and a curve; none: the certifier as it is given.
        radii: at which certified accuracy is told, in input units; also what adaptive smoothing aims at. None: 0, ¼, …
            2 times the norm's usual scale.
        certifier: text or table.
        directory: of rows, table and plot; None is runs/ and a name that depends on what is asked.
        host: None is all installed plugins.
        listen: told about progress.
        executor: where images are certified: "local", "ray" or "ray:ADDRESS". The numbers don't depend on it.
        workers: processes there, each with installed plugins only; "local" with one is this process itself.
        **settings: dataset, model, seeds, limit, recipe, norm and eps of training, device, data_dir …

    Raises:
        UsageError: a name, parameter or file that doesn't fit.
    """
    host = host or default_host()
    given = {**settings, "defenses": defenses if not isinstance(defenses, str) else defenses.split(",")}
    plans = _plans(given, [str(path) for path in checkpoints], host)
    asked = [float(radius) for radius in radii] or [k / 4 for k in range(9)]
    certifiers = _certifiers(component_text(certifier, "certify"), sigma, tuple(asked) if radii else (), host)
    content = {
        "subjects": [s.key for plan in plans for s in plan.subjects],
        "certifiers": [one.build(host).label for one in certifiers],
    }
    target = RUNS / f"certify-{key_of(content)[:8]}" if directory is None else Path(directory)
    chosen = executor_of(executor, workers, plans[0].device.startswith("cuda"))
    store = RunStore(target)
    try:
        store.open()
        return _run(plans, certifiers, asked, store, host, listen, chosen)
    finally:
        store.close()
        if chosen is not None:
            chosen.shutdown()


def _plans(given: Mapping[str, Any], checkpoints: list[str], host: Host) -> list[Plan]:
    """One for what is trained, and one a checkpoint."""
    plans = []
    if given["defenses"] or not checkpoints:
        plans.append(make_plan(BenchSpec.from_plain({**given, "baseline": not given["defenses"]}, "certify"), host))
    for path in checkpoints:
        plans.append(make_plan(BenchSpec.from_plain({**given, "defenses": [], "checkpoint": path}, "certify"), host))
    return plans


def _certifiers(text: str, sigma: Sequence[float], radii: tuple[float, ...], host: Host) -> list[Asked]:
    """The certifier at each noise level, aiming at the radii where it takes them."""
    base = host.build("certifier", text)
    if not sigma:
        return [Asked(text, radii)]
    if "sigma" not in base.params:
        raise UsageError(f"{base.label} draws no noise; leave sigma out")
    if any(part.startswith("sigma=") for part in text.split(":")):
        raise UsageError(f"{text}: sigma is given twice")
    found = [Asked(f"{text}:sigma={as_text(float(value))}", radii) for value in sigma]
    for one in found:
        one.build(host)  # a mistake is told before anything is trained
    return found


def _run(
    plans: list[Plan],
    certifiers: list[Asked],
    radii: list[float],
    store: RunStore,
    host: Host,
    listen: Listener,
    executor: Executor | None,
) -> Certification:
    sheets: dict[tuple[str, int, str], Sheet] = {}
    tasks: list[SheetTask] = []
    bases: list[Base] = []
    components = [one.build(host) for one in certifiers]
    for place, plan in enumerate(plans):
        ready = []
        for subject in plan.subjects:
            built = _built(subject, plan, host, store.directory, listen)
            ready.append(dataclasses.replace(built, model=nn.Identity()))  # workers read the weights themselves
            for asked, component in zip(certifiers, components, strict=True):
                name = (subject.label, subject.seed, component.label)
                if name in sheets:
                    raise UsageError(f"two models are called {subject.label}; rename one of the checkpoints")
                sheets[name] = sheet = Sheet(built, component, plan, store.directory / "rows")
                if executor is None:
                    certify_rows(sheet, built.model, component, plan, listen)
                else:
                    passes = float(component.params.get("n") or UNKNOWN)
                    tasks.append(SheetTask(sheet, asked, subject, place, passes, listen))
        bases.append(Base(plan=plan, built=ready, directory=store.directory, precision="fp32", host=host))
    if executor is not None and any(sheet.missing for sheet in sheets.values()):
        failed = [task for task in distribute(tasks, bases, executor, listen) if task.failure is not None]
        if failed and failed[0].failure is not None:
            raise UsageError(
                f"{failed[0].sheet.label}: {failed[0].failure[0]}; rows that were certified are kept, and the same "
                "call goes on from there"
            )
    rows = {name: sheet.columns() for name, sheet in sheets.items()}
    guarantee = {name[2]: sheet.guarantee for name, sheet in sheets.items()}
    of = {component.label: component for component in components}
    frame = pd.DataFrame([_row(name, of[name[2]], columns, radii) for name, columns in rows.items()])
    _write(frame, rows, guarantee, store.directory)
    return Certification(frame, rows, guarantee, store.directory)


def _built(subject: Subject, plan: Plan, host: Host, directory: Path, listen: Listener) -> Built:
    built = build_told(subject, plan, host, ModelCache(), directory, listen)
    listen(SubjectReady(subject, built.cached))
    return built


def _row(
    name: tuple[str, int, str], component: Component, columns: Mapping[str, np.ndarray], radii: list[float]
) -> dict[str, Any]:
    found = summary(columns, ())
    return {
        "defense": name[0],
        "seed": name[1],
        "certifier": name[2],
        "sigma": component.params.get("sigma", np.nan),
        "n": found["count"],
        "certified": found["certified"],
        "wrong": found["wrong"],
        "abstained": found["abstained"],
        "ACR (all images)": found["average_radius"],
        "mean radius (certified only)": np.nan
        if found["mean_radius_certified"] is None
        else found["mean_radius_certified"],
        "passes": found.get("mean_passes", np.nan),
        "seconds": float(columns["seconds"].mean()),
        **{f"r={as_text(radius)}": float(certified(columns, radius).mean()) for radius in radii},
    }


def _write(
    table: pd.DataFrame,
    rows: Mapping[tuple[str, int, str], Mapping[str, np.ndarray]],
    guarantee: Mapping[str, str],
    directory: Path,
) -> None:
    write_atomically(directory / "table.csv", table.to_csv(index=False).encode())
    write_atomically(directory / "table.md", markdown_of(table, guarantee).encode())
    several = len({seed for _, seed, _ in rows}) > 1
    curves = [
        Curve(model=f"{label} (seed {seed})" if several else label, certifier=certifier, rows=columns)
        for (label, seed, certifier), columns in rows.items()
    ]
    for suffix in (".svg", ".png"):
        certified_curves(curves, directory / f"curves{suffix}")


def markdown_of(table: pd.DataFrame, guarantee: Mapping[str, str]) -> str:
    """The table for people: accuracies in percent, radii with three digits; what is promised below."""
    shown = table.drop(columns=[name for name in ("sigma",) if table[name].isna().all()] + ["certifier"]).copy()
    for name in shown.columns:
        if name.startswith("r="):
            shown[name] = [f"{100 * value:.1f}" for value in shown[name]]
        elif name.startswith(("ACR", "mean radius")):
            shown[name] = ["–" if np.isnan(value) else f"{value:.3f}" for value in shown[name]]
        elif name in ("passes", "seconds"):
            digits = 0 if name == "passes" else 3
            shown[name] = ["–" if np.isnan(value) else f"{value:,.{digits}f}" for value in shown[name]]
    head = [str(name) for name in shown.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in shown.itertuples(index=False)]
    notes = [f"{label}: {promise}" for label, promise in guarantee.items()]
    notes.append(
        "r=…: certified accuracy in percent, right and with at least this radius. ACR is the mean radius over all "
        "images, 0 where nothing is certified; the other mean is over the certified images only, and ranks models "
        "differently. A certifier that tests the known label counts what is wrong as abstained. Passes and seconds "
        "are an image's."
    )
    return "\n".join([*lines, "", *(f"{note}\n" for note in notes)])
