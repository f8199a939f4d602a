"""What a long measurement has finished, a JSON line each: a second call goes on there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Records:
    """A file of records; a line that an interrupt cut short counts as not written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def every(self, **key: Any) -> list[dict[str, Any]]:
        """The records whose fields are these, in the order they were added."""
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        records = (json.loads(line) for line in lines if line.endswith("}"))
        return [record for record in records if all(record.get(name) == value for name, value in key.items())]

    def find(self, **key: Any) -> dict[str, Any] | None:
        """The last record whose fields are these."""
        return next(reversed(self.every(**key)), None)

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        return record
