"""From the text a user writes to a data set."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import torch

from robustkit.contracts import Data, Source
from robustkit.data.splits import check_unit_range
from robustkit.factory import call_factory, import_factory, is_reference
from robustkit.host import Host, NameNotFound, Registered
from robustkit.params import UsageError

_LOOKED_AT = 16


def load_data(text: str, *, host: Host, data_dir: Path | None = None) -> Data:
    """Load a data set.

    Args:
        text: a registered name with parameters ("mnist_10k", "npz:PATH", "imagefolder:PATH:size=64"), or
            "package.module:factory", a callable without arguments that returns `Data`. What follows the name of
            a source with a parameter `path` is the path or URL, which may itself hold colons and equals signs.
        host: where names are looked up.
        data_dir: where files lie or are downloaded to; None is $ROBUSTKIT_DATA, else the user's data folder.

    Raises:
        UsageError: unknown name, missing files (with where to place them), images outside [0, 1].
    """
    name, _, rest = text.partition(":")
    try:
        registered = host.find("dataset", name)
    except NameNotFound:
        if not is_reference(text):
            raise
        return _checked(call_factory(text, import_factory(text)), text)
    if "path" in _fields(host, registered):
        path, given = _split_path(text, rest, _fields(host, registered))
        source: Source = host.build("dataset", name, {"path": path, **given}).value
    else:
        source = host.build("dataset", text).value
    return _checked(source(data_dir), text)


def _fields(host: Host, registered: Registered) -> frozenset[str]:
    component: Any = host.resolve(registered)
    return frozenset(field.name for field in dataclasses.fields(component))


def _split_path(text: str, rest: str, fields: frozenset[str]) -> tuple[str, dict[str, str]]:
    """Parameters are the trailing ":key=value" parts whose key the source has; all before them is the path.

    A value may hold colons, as URLs do.
    """
    rest = rest.removeprefix("path=")
    given: dict[str, str] = {}
    parameter = re.compile(f":({'|'.join(map(re.escape, sorted(fields)))})=")
    while not os.path.exists(rest):  # noqa: PTH110 - a Path stumbles over URLs with long names
        last = max(parameter.finditer(f":{rest}"), key=re.Match.start, default=None)
        if last is None:
            break
        if last[1] in given:
            raise UsageError(f"{text!r} gives {last[1]!r} twice")
        given[last[1]] = rest[last.end() - 1 :]
        rest = rest[: max(0, last.start() - 1)]
    if not rest:
        raise UsageError(f"{text!r} names no path; write {text.partition(':')[0]}:PATH")
    return rest, given


def _checked(data: object, text: str) -> Data:
    """`data`, if it is what the contract says; a few test images stand for all.

    Raises:
        UsageError: another type, empty parts, images of another shape or type or outside [0, 1], labels beyond
            the classes.
    """
    if not isinstance(data, Data):
        raise UsageError(f"{text} returned a {type(data).__name__}; a data source returns `Data`")
    for part, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        if not len(split):
            raise UsageError(f"{text}: the {part} part is empty")
        labels = split.labels
        if labels.dtype != torch.int64 or int(labels.min()) < 0 or int(labels.max()) >= len(data.classes):
            raise UsageError(
                f"{text}: labels of {part} are {labels.dtype} from {int(labels.min())} to {int(labels.max())}; "
                f"with {len(data.classes)} classes they must be int64 from 0 to {len(data.classes) - 1}"
            )
    x, _ = data.test.batch(torch.arange(min(_LOOKED_AT, len(data.test))))
    if x.dtype != torch.float32 or tuple(x.shape[1:]) != tuple(data.shape):
        raise UsageError(
            f"{text} gives images {tuple(x.shape[1:])} as {x.dtype}; it declares {tuple(data.shape)}, "
            "and a batch is float32"
        )
    check_unit_range(x, f"{text}: images")
    return data
