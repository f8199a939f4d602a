"""Data sets made of a few images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from robustkit.contracts import Data, Split, Threat


def data_of(images: Split, classes: Iterable[str] = "abc", **fields: Any) -> Data:
    """These images as all three parts of a data set, against Linf at 0.1; `fields` replace those of `Data`."""
    first, _ = images.batch(torch.arange(1))
    given: dict[str, Any] = {
        "name": "made",
        "classes": tuple(classes),
        "shape": tuple(first.shape[1:]),
        "threat": Threat("linf", 0.1),
        "train": images,
        "val": images,
        "test": images,
        "fingerprint": "made",
    }
    return Data(**given | fields)
