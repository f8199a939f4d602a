"""Images that detectors found worth looking at, such as reversed triggers, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustkit.pipeline.pictures import read_pictures
from robustkit.report.backdoors import verdict_words
from robustkit.report.gallery import image_of, uri_of

BUDGET = 300_000
"""Characters of all images together."""
_SIDE = 96


@dataclass(frozen=True)
class Found:
    """What a detector shows of one model: its verdict in words, and images by name as data URIs."""

    model: str
    detector: str
    words: str
    images: Mapping[str, str]


def triggers(inspections: Sequence[Mapping[str, Any]], directory: Path, budget: int = BUDGET) -> list[Found]:
    """One a model and detector that showed images, until the budget is used up."""
    found: list[Found] = []
    used = 0
    for record in inspections:
        if record["kind"] != "detector" or record["error"] is not None:
            continue
        kept = read_pictures(directory, record["key"])
        if kept is None:
            continue
        names = [str(name) for name in kept["names"]]
        images = {name: uri_of(image_of(kept[f"image_{place}"]), _SIDE) for place, name in enumerate(names)}
        used += sum(map(len, images.values()))
        if used > budget and found:
            break
        found.append(Found(record["subject"], record["detector"], verdict_words(record), images))
    return found
