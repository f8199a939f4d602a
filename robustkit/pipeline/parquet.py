"""Columns as Parquet, with notes beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def encoded(columns: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> bytes:
    """Columns as Parquet, with notes in its metadata."""
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({"robustkit": json.dumps(dict(notes))})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_parquet(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `encoded` was given."""
    table = pq.read_table(path, use_threads=False, pre_buffer=False)
    notes = json.loads((table.schema.metadata or {}).get(b"robustkit", b"{}"))
    return {name: table.column(name).to_numpy() for name in table.column_names}, notes
