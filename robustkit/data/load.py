"""From the text a user writes to a data set."""

from __future__ import annotations

import importlib
from pathlib import Path

from robustkit.contracts import Data, Source
from robustkit.host import Host
from robustkit.params import UsageError, parse_call

_WITH_PATH = ("imagefolder", "npz")


def load_data(text: str, *, host: Host, data_dir: Path | None = None) -> Data:
    """Load a data set.

    Args:
        text: a registered name with parameters ("mnist_10k"), "npz:PATH", "imagefolder:PATH" (parameters
            follow as ":key=value"), or "package.module:factory", a callable without arguments that
            returns `Data`.
        host: where names are looked up.
        data_dir: where files lie or are downloaded to; None is the user's data folder.

    Raises:
        UsageError: unknown name, missing files (with where to place them), images outside [0, 1].
    """
    name, _, rest = text.partition(":")
    if name in _WITH_PATH:
        path, params = _split_path(text, rest)
        source: Source = host.build("dataset", name, {"path": path, **params}).value
        return source(data_dir)
    if rest and "." in name and "=" not in rest:
        data = _call_factory(name, rest)
        if not isinstance(data, Data):
            raise UsageError(f"{text} returned a {type(data).__name__}; a data factory returns robustkit.Data")
        return data
    component: Source = host.build("dataset", text).value
    return component(data_dir)


def _split_path(text: str, rest: str) -> tuple[str, dict[str, str]]:
    """PATH may hold colons and equals signs; parameters are the trailing ":key=value" parts."""
    parts = rest.split(":")
    params: list[str] = []
    while len(parts) > 1 and "=" in parts[-1] and parts[-1].partition("=")[0].isidentifier():
        if Path(":".join(parts)).exists():
            break
        params.insert(0, parts.pop())
    path = ":".join(parts).removeprefix("path=")
    if not path:
        raise UsageError(f"{text!r} names no path; write {text.partition(':')[0]}:PATH")
    _, given = parse_call(":".join(["x", *params]))
    return path, given


def _call_factory(module_name: str, attribute: str) -> object:
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{module_name}:{attribute} cannot be imported: {error}") from error
    return factory()
