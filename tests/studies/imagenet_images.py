"""The 20 photographs that foolbox brings, in folders as ImageNet has them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from robustkit.imagenet import wordnet_ids


def write_photographs(root: Path) -> list[int]:
    """Copy them into folders by WordNet id; returns their classes. Skips the test where foolbox is absent."""
    spec = importlib.util.find_spec("foolbox")
    if spec is None or spec.origin is None:
        pytest.skip("needs the photographs that foolbox brings")
    ids = list(wordnet_ids())
    found = []
    for path in sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg")):
        found.append(int(path.stem.rpartition("_")[2]))
        folder = root / ids[found[-1]]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return found
