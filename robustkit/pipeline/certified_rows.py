"""Certificates of many images, a row each, on disk as soon as they are known."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from robustkit.contracts import Norm
from robustkit.engine.certify import Columns, certify_block
from robustkit.host import Component
from robustkit.params import as_text
from robustkit.pipeline.events import Certified, Listener
from robustkit.pipeline.keys import component_content, key_of, seed_of
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import append, write_atomically
from robustkit.pipeline.subjects import Built, file_name

GROUP = 20
"""Images that are certified together and seeded together: they share batches, and a kill costs no more than them."""

NAMES = {"hits": "nA"}
"""Columns that the literature calls otherwise."""
WHOLE = ("index", "label", "prediction", "tested", "nA", "n", "looks", "passes")


def certify_rows(built: Built, certifier: Component, plan: Plan, folder: Path, listen: Listener) -> tuple[Columns, str]:
    """Certify the first `plan.count` test images, or read what was certified before.

    The file is named by model, noise and a hash of all that decides its numbers; beside it a JSON file says what they
    are and what is promised.

    Returns:
        Per-sample columns, and the guarantee.
    """
    norm: Norm = certifier.params.get("norm") or sorted(certifier.entry.norms)[0]  # type: ignore[attr-defined]
    content = {
        "weights": built.about["weights"],
        "subject": built.subject.key,
        "certifier": component_content(certifier),
        "data": plan.data.fingerprint,
        "norm": norm,
        "group": GROUP,
    }
    key = key_of(content)
    sigma = certifier.params.get("sigma")
    words = [file_name(built.subject.label), f"seed{built.subject.seed}"]
    words += [] if sigma is None else [f"sigma{as_text(float(sigma)).replace('/', '_')}"]
    path = folder / f"{'-'.join(words)}-{key[:8]}.csv"
    known = _read(path)
    about = path.with_suffix(".json")
    promise = json.loads(about.read_text())["guarantee"] if about.is_file() else ""
    if len(known) < plan.count or not promise:
        known = known[: len(known) // GROUP * GROUP] if promise else []  # groups are whole or not there
        if path.is_file():
            write_atomically(path, _lines(known, header=True) if known else b"")
    while len(known) < plan.count:
        start = len(known)
        rows = torch.arange(start, min(start + GROUP, plan.count))
        x, y = (part.to(plan.device) for part in plan.data.test.batch(rows))
        found = certify_block(built.model, certifier, x, y, rows, norm, seed_of(key, start))
        if found.guarantee != promise:
            promise = found.guarantee
            note = {"guarantee": promise, "certifier": certifier.label, "params": dict(certifier.params), **content}
            write_atomically(about, json.dumps(note, indent=2).encode())
        columns = {NAMES.get(name, name): values for name, values in found.columns.items()}
        fresh: list[Row] = [{name: _plain(values[i]) for name, values in columns.items()} for i in range(len(rows))]
        append(path, _lines(fresh, header=not known))
        known += fresh
        listen(Certified(f"{built.subject.label} / {certifier.label}", len(known), plan.count))
    known = known[: plan.count]
    return {name: np.array([row[name] for row in known]) for name in known[0]}, promise


Row = Mapping[str, int | float]


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
