"""Content keys: equal exactly where the same thing would be computed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from robustkit.contracts import Data, Recipe
from robustkit.factory import import_factory, is_reference
from robustkit.host import Component, Host, NameNotFound
from robustkit.params import UsageError


def key_of(content: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON, 20 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def seed_of(key: str, block: int) -> int:
    """The seed of one block of samples of one cell, below 2³¹."""
    digest = hashlib.sha256(f"{key}/{block}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def component_content(component: Component) -> dict[str, Any]:
    """What stands for a component in a key.

    Who brings it, in which version, with which parameters; the versions of the libraries it wraps; and a hash
    of its source file, so that an author who edits a method without a new version is not shown old numbers. A
    parameter that names a file, or a function of the user's, stands for the file's content, too.
    """
    provider = component.registered.provider
    files = {name: _file_of(text) for name, text in component.params.items() if isinstance(text, str)}
    hashes = {name: file_hash(path) for name, path in files.items() if path is not None}
    return {
        "name": component.registered.qualified,
        "distribution": provider.distribution,
        "version": provider.version,
        "libraries": library_versions(component),
        "source": _source_hash(type(component.value)),
        "params": dict(component.params),
        **({"files": hashes} if hashes else {}),
    }


def _file_of(text: str) -> Path | None:
    """The file that a parameter names, or in which "package.module:function" is written; None where it is neither."""
    path = Path(text).expanduser()
    if path.is_file():
        return path
    with contextlib.suppress(UsageError, TypeError):  # what cannot be imported is told when it is used
        source = inspect.getsourcefile(inspect.unwrap(import_factory(text))) if is_reference(text) else None
        return Path(source) if source and Path(source).is_file() else None
    return None


def library_versions(component: Component) -> dict[str, str]:
    """Versions of the distributions that an entry needs, as far as they are installed."""
    versions = {}
    for text in re.split(r"[,\s]+", component.entry.needs):
        try:
            name = Requirement(text).name
            versions[name] = metadata.version(name)
        except (InvalidRequirement, metadata.PackageNotFoundError):
            continue
    return versions


def model_content(text: str, data: Data, host: Host) -> dict[str, Any]:
    """What stands for an architecture in a key; its name is checked on the way.

    A function of the user's, "package.module:factory", may load weights and may change at any time: it is
    built, and stands for its weights and its file.

    Raises:
        UsageError: unknown name or parameter.
    """
    common = {
        "shape": list(data.shape),
        "classes": len(data.classes),
        "mean": list(data.mean),
        "std": list(data.std),
    }
    try:
        host.find("model", text.partition(":")[0])
    except NameNotFound:
        if text.startswith("torchvision."):
            return {"name": text, "version": metadata.version("torchvision"), **common}
        if not is_reference(text):
            raise
    else:
        return {"component": component_content(host.build("model", text)), **common}
    from robustkit.models.build import build_model
    from robustkit.models.weights import weights_hash

    source = inspect.getsourcefile(inspect.unwrap(import_factory(text)))
    weights = weights_hash(build_model(text, data, host=host))
    return {"name": text, "source": file_hash(Path(source)) if source else "", "weights": weights, **common}


def recipe_content(recipe: Recipe) -> dict[str, Any]:
    """What stands for a recipe in a key: its fields; of files, their content.

    Raises:
        UsageError: a file it names is not there.
    """
    content = dataclasses.asdict(recipe)
    start, extra, share = content.pop("start"), content.pop("extra"), content.pop("extra_share")
    if start:
        content["start"] = file_hash(Path(start).expanduser())
    if extra:
        content |= {"extra": file_hash(Path(extra).expanduser()), "extra_share": share}
    return content


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits.

    Raises:
        UsageError: there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _source_hash(kind: type[Any]) -> str:
    try:
        return file_hash(Path(inspect.getfile(kind)))
    except (TypeError, OSError, UsageError):  # made in a notebook or a test, without a file
        return ""
