"""The images of a recipe: a data set, or some of its classes, or the first of its training images.

Each is a data set of its own to RobustKit, named "recipe_data:NAME".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from robustkit.contracts import Data, Split
from robustkit.data.load import load_data
from robustkit.data.splits import ArraySplit, fingerprint, in_memory
from robustkit.host import default_host
from robustkit.params import UsageError
from robustkit.pipeline.spec import apply_recipe

FIELDS = {"name", "dataset", "classes", "images", "recipe"}
VALIDATION = 500
"""Validation images that are kept beside a part of the training images."""
_known: dict[str, Data] = {}


def define(given: Mapping[str, Any], source: str, data_dir: Path | None) -> Data:
    """Make a [[data]] table of a recipe known by its name.

    Args:
        given: name; classes {name = label} to take, in that order; images, the first of the training part; recipe,
            fields of the data set's training recipe to replace.
        source: what is read: a data set as the command line names it.
        data_dir: where it lies.

    Raises:
        UsageError: a name that is none, or a part of data that are not held in memory.
    """
    name = given["name"]
    if not name.isidentifier():
        raise UsageError(f"[[data]] name={name!r} must be letters, digits and _")
    data = load_data(source, host=default_host(), data_dir=data_dir)
    data = dataclasses.replace(data, name=name, recipe=apply_recipe(data.recipe, given.get("recipe", {})))
    classes: Mapping[str, int] = given.get("classes", {})
    images = int(given.get("images", 0))
    if classes or images:
        labels = list(classes.values())
        train, val, test = (_of(split, labels, name) for split in (data.train, data.val, data.test))
        if images:
            train, val = _first(train, images), _first(val, VALIDATION)
        print_of = fingerprint(train, val, test)
        names = tuple(classes) or data.classes
        data = dataclasses.replace(data, classes=names, train=train, val=val, test=test, fingerprint=print_of)
    _known[name] = data
    return data


def __getattr__(name: str) -> Callable[[], Data]:
    if name not in _known:
        raise AttributeError(f"no [[data]] is called {name!r}; there are {', '.join(_known) or 'none'}")
    return lambda: _known[name]


def _of(split: Split, labels: list[int], name: str) -> ArraySplit:
    """The images of these classes, whose labels become 0, 1, …; all of them where none is named."""
    whole = in_memory(split)
    if whole is None:
        raise UsageError(f"[[data]] {name} is not held in memory, so that no part of it can be taken")
    if not labels:
        return whole
    kept = torch.isin(whole.labels, torch.tensor(labels))
    place = torch.full((max(labels) + 1,), -1)
    place[torch.tensor(labels)] = torch.arange(len(labels))
    return ArraySplit(whole.images[kept], place[whole.labels[kept]])


def _first(split: ArraySplit, count: int) -> ArraySplit:
    return ArraySplit(split.images[:count], split.labels[:count])
