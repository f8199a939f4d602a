"""From Python: `robustkit.bench`, `train`, `load`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from robustkit.contracts import Data, Threat
from robustkit.data.splits import ArraySplit
from robustkit.executors.choose import executor_of
from robustkit.executors.pool import Executor
from robustkit.flags.records import flagged
from robustkit.host import Host, default_host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint
from robustkit.params import UsageError, suggest
from robustkit.pipeline.detect import inspections_of
from robustkit.pipeline.ending import terminable
from robustkit.pipeline.events import Listener, ignore
from robustkit.pipeline.inspections import inspect_run
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.mirror import Mirror
from robustkit.pipeline.plan import Plan, make_plan
from robustkit.pipeline.run import run
from robustkit.pipeline.sample import sample
from robustkit.pipeline.spec import BenchSpec, asked, component_text
from robustkit.pipeline.spend import spend
from robustkit.pipeline.store import ModelCache, Record, RunStore, Samples
from robustkit.pipeline.subjects import Built, build_subject, kept_path
from robustkit.pipeline.told import build_told
from robustkit.report.files import markdown
from robustkit.report.footer import footer
from robustkit.report.format import readable
from robustkit.tables import attack_columns, comparison, tidy

RUNS = Path("runs")


@dataclass(frozen=True)
class BenchResult:
    """What came of a bench.

    Args:
        table: the comparison, one row a model; see `robustkit.tables.comparison`.
        records: one a cell.
        directory: of the run; None for an evaluation that kept nothing. Of a run behind a URL a copy on this machine,
            which goes with this process.
        environment: on what it ran.
        samples: per-sample columns by cell key.
        inspections: backdoors and detectors, one record each; see `robustkit.pipeline.inspections`.
    """

    table: pd.DataFrame
    records: list[Record]
    directory: Path | None
    environment: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    inspections: Sequence[Record] = ()
    mirror: Mirror | None = field(default=None, repr=False, compare=False)

    @property
    def place(self) -> str:
        """Where the run is kept: its directory or URL."""
        return str(self.directory) if self.mirror is None else self.mirror.url

    def push(self) -> None:
        """Write what was added to the copy of a run behind a URL; nothing to do for one that is kept in a directory."""
        if self.mirror is not None:
            self.mirror.push()

    @property
    def ok(self) -> bool:
        """Whether every cell has a number."""
        return all(record["status"] == "ok" for record in self.records)

    @property
    def attack_columns(self) -> list[str]:
        return attack_columns(self.records)

    def model(self, defense: str, seed: int = 0) -> nn.Module:
        """A model that this run trained, in eval mode on the CPU.

        Raises:
            UsageError: the run trained no such model.
        """
        if self.directory is None:
            raise UsageError("an evaluation trains no model")
        path = kept_path(defense, seed, self.directory)
        if not path.is_file():
            trained = sorted(found.stem for found in path.parent.glob("*.safetensors"))
            raise UsageError(f"{self.directory} has no model {path.stem!r}{suggest(path.stem, trained)}")
        return load_model(path)

    def report(self) -> Path:
        """Write report.html and figures/ into the run directory; returns the page, behind a URL its copy.

        Raises:
            UsageError: an evaluation kept no run directory.
        """
        from robustkit.report.html import write_report  # matplotlib and Jinja2, which no measurement needs

        if self.directory is None:
            raise UsageError("an evaluation keeps no run directory; robustkit.bench does, and can be reported")
        page = write_report(
            self.records, self.table, self.environment, self.samples.__getitem__, self.directory, self.inspections
        )
        self.push()
        return page

    def __str__(self) -> str:
        """The table with its footer, in markdown."""
        return markdown(readable(self.table, self.records), footer(self.records, self.environment))

    @property
    def tidy(self) -> pd.DataFrame:
        """One row a cell, every metric a column."""
        return tidy(self.records)


def bench(
    defenses: Sequence[str | Mapping[str, Any]] | str = (),
    attacks: Sequence[str | Mapping[str, Any]] | str = (),
    certifiers: Sequence[str | Mapping[str, Any]] | str = (),
    *,
    directory: str | Path | None = None,
    host: Host | None = None,
    listen: Listener = ignore,
    executor: str = "local",
    workers: int | None = None,
    **settings: Any,
) -> BenchResult:
    """Train, attack and compare; what `robustkit bench` does.

    Args:
        defenses, attacks, certifiers: texts ("pgd:steps=50"), or tables {"name": "pgd", "steps": 50}.
        directory: of the run; None is runs/ and a name that depends on what is asked, so that the same call
            goes on where it stopped and answers from its records when it is done. A text may be a URL that fsspec
            understands.
        host: None is all installed plugins.
        listen: told about progress.
        executor: where blocks are measured: "local", "ray" or "ray:ADDRESS". The numbers don't depend on it.
        workers: processes there, each with installed plugins only; "local" with one is this process itself.
        **settings: any other field of `robustkit.pipeline.spec.BenchSpec`: dataset, model, norm, eps, seeds …;
            budget=600 or "10m" spends so much time of attacks where it lowers robust accuracy most;
            precision_points=1 judges as many test images as it takes to tell the defenses apart.

    Raises:
        UsageError: a name, parameter or file that doesn't fit, before anything is trained.
    """
    lists = {"defenses": defenses, "attacks": attacks, "certifiers": certifiers}
    given = {**settings, **{name: asked(items) for name, items in lists.items()}}
    host = host or default_host()
    plan = make_plan(BenchSpec.from_plain(given, "bench"), host)
    chosen = executor_of(executor, workers, plan.device.startswith("cuda"))
    return run_plan(plan, RUNS / plan.name if directory is None else directory, host, listen, chosen)


@terminable()
def run_plan(
    plan: Plan, directory: Path | str, host: Host, listen: Listener = ignore, executor: Executor | None = None
) -> BenchResult:
    """Run a plan in its directory and make the table; the executor, if there is one, ends with it."""
    store = RunStore(directory)
    store.open()
    try:
        if executor is not None and (plan.spec.budget is not None or plan.spec.precision_points is not None):
            raise UsageError("budget and precision_points choose block after block in one process; leave workers out")
        if plan.spec.budget is not None:
            records = spend(plan, store, host=host, cache=ModelCache(), listen=listen)
        elif plan.spec.precision_points is not None:
            records = sample(plan, store, host=host, cache=ModelCache(), listen=listen)
        else:
            records = run(plan, store, host=host, cache=ModelCache(), listen=listen, executor=executor)
        found = result_of(store, records)
        if plan.planted is None and not plan.spec.detectors:
            return found

        def build(subject: Subject) -> Built:
            return build_subject(subject, plan, host, ModelCache(), store.directory)

        inspections = inspect_run(plan, store, host, build, again=executor is None)
        store.write("inspections.json", json.dumps([record["key"] for record in inspections]) + "\n")
        return dataclasses.replace(found, inspections=inspections)
    finally:
        if executor is not None:
            executor.shutdown()
        store.close()


def result_of(store: RunStore, records: list[Record]) -> BenchResult:
    """The result of records whose samples lie in `store`."""
    samples = Samples(store, (record["key"] for record in records if record["status"] == "ok"))
    records = flagged(records, samples.__getitem__)
    table = comparison(records, samples.__getitem__)
    environment = store.read_json("environment.json")
    return BenchResult(table, records, store.directory, environment, samples, mirror=store.mirror)


def load(directory: str | Path) -> BenchResult:
    """The result of an earlier run, from its directory or URL; nothing is measured.

    Raises:
        UsageError: no records there.
    """
    store = RunStore(directory)
    if store.mirror is not None:
        store.mirror.fetch()
    records = store.in_order(store.records().values())
    if not records:
        raise UsageError(f"{directory} holds no records of a run; name a directory below {RUNS}/")
    return dataclasses.replace(result_of(store, records), inspections=inspections_of(store.directory))


def load_model(path: Path, *, host: Host | None = None) -> nn.Module:
    """A trained model in eval mode on the CPU, built as its provenance says.

    Raises:
        UsageError: no provenance beside the weights.
    """
    note = path.with_suffix(".json")
    if not note.is_file():
        raise UsageError(
            f"{path} has no provenance {note.name} beside it, which names the architecture; "
            "bench weights of your own with --model and --checkpoint"
        )
    about = json.loads(note.read_text())
    channels, height, width = about["shape"]
    empty = ArraySplit(torch.zeros(0, channels, height, width, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    data = Data(
        name=about["dataset"]["name"],
        classes=tuple(about["classes"]),
        shape=(channels, height, width),
        threat=Threat(**about["threat"]),
        train=empty,
        val=empty,
        test=empty,
        fingerprint=about["dataset"]["fingerprint"],
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
    )
    model = build_model(about["model"], data, host=host or default_host())
    load_checkpoint(model, path)
    return model.eval()


def train(
    defense: str | Mapping[str, Any],
    *,
    seed: int = 0,
    directory: str | Path | None = None,
    host: Host | None = None,
    listen: Listener = ignore,
    **settings: Any,
) -> nn.Module:
    """Train one model, or take it from the cache; what `robustkit train` does.

    Args:
        defense: "pgd_at:steps=10", or a table.
        seed: of the training.
        directory: gets the weights (safetensors), their provenance and TensorBoard events; None: none.
        host: None is all installed plugins.
        listen: told about progress.
        **settings: dataset, model, norm, eps, recipe, device, precision, data_dir, as for `bench`.

    Returns:
        The model in eval mode, on its device.
    """
    text = component_text(defense, "train")
    host = host or default_host()
    given = {**settings, "defenses": [text], "seeds": [seed], "baseline": False}
    plan = make_plan(BenchSpec.from_plain(given, "train"), host)
    subject = plan.subjects[-1]
    built = build_told(subject, plan, host, ModelCache(), Path(directory) if directory is not None else None, listen)
    return built.model
