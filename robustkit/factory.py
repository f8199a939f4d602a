"""Imports what a user names as "package.module:factory"."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from robustkit.params import UsageError


def is_reference(text: str) -> bool:
    """Whether `text` has the form "package.module:factory", which parameters ("name:key=value") never have."""
    module, colon, attribute = text.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def import_factory(text: str) -> Callable[..., Any]:
    """The callable that "package.module:factory" names; modules of the working directory are found too.

    Raises:
        UsageError: no such module or attribute, an error while it is imported, or something not callable.
    """
    module_name, _, attribute = text.partition(":")
    here = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that nothing installed is shadowed
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{text}: {module_name} cannot be imported ({type(error).__name__}: {error})") from error
    found = getattr(module, attribute, None)
    if found is None:
        raise UsageError(f"{text}: {module_name} ({getattr(module, '__file__', '')}) has no {attribute!r}")
    if not callable(found):
        raise UsageError(f"{text} is a {type(found).__name__}; name a function")
    factory: Callable[..., Any] = found
    return factory


def takes(factory: Callable[..., Any], names: Mapping[str, Any]) -> bool:
    """Whether a factory has parameters of all these names, or at least one that it cannot do without."""
    try:
        parameters = inspect.signature(factory).parameters
    except (ValueError, TypeError):  # some callables written in C
        return False
    needed = [
        p for p in parameters.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return bool(needed) or names.keys() <= parameters.keys()


def call_factory(text: str, factory: Callable[..., Any], *arguments: Any) -> Any:
    """Call what "package.module:factory" named; `text` is for messages.

    Raises:
        UsageError: it fails.
    """
    try:
        return factory(*arguments)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{text} failed with {type(error).__name__}: {error}") from error
