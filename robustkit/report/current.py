"""Whether a run's page shows its records already; apart, since a run answered from its records draws nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from robustkit.tables import Record

FILE = "report.html"
FIGURES = "figures"


def is_current(records: Sequence[Record], directory: Path, inspections: Sequence[Record] = ()) -> bool:
    """Whether the page in a run directory already shows these records, and what detectors said."""
    path = directory / FILE
    if not path.is_file() or not (directory / FIGURES).is_dir():
        return False
    with path.open(encoding="utf-8") as file:
        return f'content="{digest_of(records, inspections)}"' in file.read(2000)


def digest_of(records: Sequence[Record], inspections: Sequence[Record] = ()) -> str:
    """Stands for the content of the page: records, and the version that draws them."""
    content = [metadata.version("robustkit"), *records, *inspections]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
