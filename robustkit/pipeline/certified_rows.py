"""Certificates of many images, a row each, on disk as soon as they are known."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robustkit.contracts import Norm
from robustkit.engine.certify import Columns, certify_block
from robustkit.files import write_atomically
from robustkit.host import Component, Host
from robustkit.params import as_text
from robustkit.pipeline.events import Certified, Listener
from robustkit.pipeline.keys import component_content, key_of, seed_of
from robustkit.pipeline.lineup import Subject
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import append
from robustkit.pipeline.subjects import Built, file_name

GROUP = 20
"""Images that are certified together and seeded together: they share batches, and a kill costs no more than them."""

NAMES = {"hits": "nA"}
"""Columns that the literature calls otherwise."""
Row = Mapping[str, int | float]
WHOLE = ("index", "label", "prediction", "tested", "nA", "n", "looks", "passes")


@dataclass(frozen=True)
class Asked:
    """A certifier as it was asked for, from which any process makes the same one.

    Args:
        text: "smoothing:n=1000:sigma=0.25".
        radii: that it aims at, if it takes some and names none itself.
    """

    text: str
    radii: tuple[float, ...] = ()

    def build(self, host: Host) -> Component:
        """The certifier.

        Raises:
            UsageError: unknown name or parameter.
        """
        found = host.build("certifier", self.text)
        if not self.radii or found.params.get("radii") != ():
            return found
        params = {**found.params, "radii": list(self.radii)}
        return dataclasses.replace(found, value=dataclasses.replace(found.value, radii=self.radii), params=params)


class Sheet:
    """The rows of one model and certifier, in a file that grows by groups of images, in their order.

    The file is named by model, noise and a hash of all that decides its numbers; beside it a JSON file says what they
    are and what is promised. What lies there is not certified again.

    Args:
        built: the model's weights and name.
        certifier: the component.
        plan: gives the data; the first `plan.count` test images are certified.
        folder: of the files.
    """

    def __init__(self, built: Built, certifier: Component, plan: Plan, folder: Path) -> None:
        self.label = f"{built.subject.label} / {certifier.label}"
        content = sheet_content(built.subject, built.about["weights"], certifier, plan)
        self.key = key_of(content)
        self._about = {"certifier": certifier.label, "params": dict(certifier.params), **content}
        self.count = plan.count
        sigma = certifier.params.get("sigma")
        words = [file_name(built.subject.label), f"seed{built.subject.seed}"]
        words += [] if sigma is None else [f"sigma{as_text(float(sigma)).replace('/', '_')}"]
        self._path = folder / f"{'-'.join(words)}-{self.key[:8]}.csv"
        self._note = self._path.with_suffix(".json")
        self.guarantee: str = json.loads(self._note.read_text())["guarantee"] if self._note.is_file() else ""
        self._known = _read(self._path)
        if len(self._known) < plan.count or not self.guarantee:
            # groups are whole or not there
            self._known = self._known[: len(self._known) // GROUP * GROUP] if self.guarantee else []
            if self._path.is_file():
                write_atomically(self._path, _lines(self._known, header=True) if self._known else b"")
        self._early: dict[int, list[Row]] = {}  # groups that came before those that stand before them
        self._lock = threading.Lock()

    @property
    def groups(self) -> int:
        return -(-self.count // GROUP)

    def images(self, number: int) -> range:
        """Of a group."""
        return group_images(number, self.count)

    @property
    def missing(self) -> range:
        """The numbers of the groups that are not there."""
        return range(len(self._known) // GROUP, self.groups) if len(self._known) < self.count else range(0)

    @property
    def done(self) -> int:
        """Images whose rows are known."""
        with self._lock:
            return min(self.count, len(self._known) + sum(len(rows) for rows in self._early.values()))

    def add(self, number: int, rows: list[Row], guarantee: str) -> None:
        """A group is certified; from any thread, in any order. It is written when those before it are there."""
        with self._lock:
            if guarantee != self.guarantee:
                self.guarantee = guarantee
                write_atomically(self._note, json.dumps({"guarantee": guarantee, **self._about}, indent=2).encode())
            self._early[number] = rows
            while len(self._known) % GROUP == 0 and len(self._known) // GROUP in self._early:
                fresh = self._early.pop(len(self._known) // GROUP)
                append(self._path, _lines(fresh, header=not self._known))
                self._known += fresh

    def columns(self) -> Columns:
        """Per-sample columns of the first `plan.count` images, all of them known."""
        known = self._known[: self.count]
        return {name: np.array([row[name] for row in known]) for name in known[0]}


def certify_group(
    model: nn.Module, certifier: Component, plan: Plan, key: str, number: int
) -> tuple[list[Row], str, float]:
    """Certify one group of images, seeded by the sheet's key; its rows, the guarantee and the seconds it took."""
    rows = torch.tensor(group_images(number, plan.count))
    x, y = (part.to(plan.device) for part in plan.data.test.batch(rows))
    found = certify_block(model, certifier, x, y, rows, _norm(certifier), seed_of(key, number * GROUP))
    columns = {NAMES.get(name, name): values for name, values in found.columns.items()}
    plain: list[Row] = [{name: _plain(values[i]) for name, values in columns.items()} for i in range(len(rows))]
    return plain, found.guarantee, found.seconds


def group_images(number: int, count: int) -> range:
    """The images of a group, of `count` in all."""
    return range(number * GROUP, min((number + 1) * GROUP, count))


def certify_rows(sheet: Sheet, model: nn.Module, certifier: Component, plan: Plan, listen: Listener) -> None:
    """Certify what a sheet misses, in this process."""
    for number in sheet.missing:
        rows, guarantee, _ = certify_group(model, certifier, plan, sheet.key, number)
        sheet.add(number, rows, guarantee)
        listen(Certified(sheet.label, sheet.done, plan.count))


def sheet_content(subject: Subject, weights: str, certifier: Component, plan: Plan) -> dict[str, Any]:
    """All that decides the numbers of a sheet; its key is their hash."""
    return {
        "weights": weights,
        "subject": subject.key,
        "certifier": component_content(certifier),
        "data": plan.data.fingerprint,
        "norm": _norm(certifier),
        "group": GROUP,
    }


def _norm(certifier: Component) -> Norm:
    norm: Norm = certifier.params.get("norm") or sorted(certifier.entry.norms)[0]  # type: ignore[attr-defined]
    return norm


def _plain(value: np.generic) -> int | float:
    plain: int | float = value.item()
    return plain


def _lines(rows: Sequence[Row], *, header: bool) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _read(path: Path) -> list[Row]:
    """The rows of a file, without a last line that a kill has torn."""
    if not path.is_file():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [
        {name: int(text) if name in WHOLE else float(text) for name, text in row.items()}
        for row in csv.DictReader(io.StringIO(whole))
    ]
