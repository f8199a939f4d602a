"""Text → typed, checked parameters of a component.

A component is a frozen dataclass; its fields are its parameters. `param` attaches the help, unit and range
that `robustkit info` shows and that `check` enforces when the component is built.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from robustkit.values import ParamError, UsageError, as_text, fits, listing, parse, plain, suggest, type_name

__all__ = [
    "Described",
    "ParamError",
    "UsageError",
    "as_text",
    "build",
    "check",
    "defaults",
    "describe",
    "param",
    "parse",
    "parse_call",
    "suggest",
    "to_plain",
]

T = TypeVar("T")


def param(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A dataclass field with what a user needs to know of it.

    Args:
        default: value where none is given.
        help: what it does, in a few words.
        unit: e.g. "input units", "radians"; shown beside the value.
        low, high: inclusive range of a number, or of each number of a list.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def check(component: Any) -> None:
    """Raise ParamError where a field does not hold what it declares: type, choices, range.

    Call it from `__post_init__`, so that the API is checked like the command line.
    """
    hints = _hints(type(component))
    for field in dataclasses.fields(component):
        value, hint = getattr(component, field.name), hints[field.name]
        where = f"{type(component).__name__}: {field.name}={value!r}"
        if not fits(value, hint):
            raise ParamError(f"{where} does not fit; it takes {type_name(hint)}")
        low, high = field.metadata.get("low"), field.metadata.get("high")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool | str) or number is None or (low is None and high is None):
                continue
            if (low is not None and number < low) or (high is not None and number > high):
                raise ParamError(f"{where} must be {_range(low, high)}")


def build(component: type[T], given: Mapping[str, Any], name: str) -> T:
    """Build `component` from `given`; texts are parsed by the field's type, other values taken where they fit.

    Args:
        component: a dataclass.
        given: parameters by name.
        name: what the user called it, for messages.

    Raises:
        ParamError: unknown parameter (with close names), value that cannot be read, missing or out of range.
    """
    hints = _hints(component)
    fields = {f.name: f for f in dataclasses.fields(component) if f.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            known = suggest(key, fields) if fields else "; it has none"
            raise ParamError(f"{name} has no parameter {key!r}{known}")
        values[key] = parse(value, hints[key], f"{name}:{key}")
    missing = [key for key in fields if key not in values and key not in defaults(component)]
    if missing:
        raise ParamError(f"{name} needs {listing(missing)}; write {name}:{missing[0]}=VALUE")
    try:
        return component(**values)
    except ValueError as error:
        raise ParamError(f"{name}: {error}") from error


def parse_call(text: str) -> tuple[str, dict[str, str]]:
    """Split "pgd:steps=50:restarts=5" into its name and its parameters as texts.

    A value may hold a colon itself when what follows is no `key=`: "transfer:source=pkg.mod:factory".

    Raises:
        ParamError: empty name, a part without "=", or a parameter given twice.
    """
    name, *parts = text.strip().split(":")
    if not name:
        raise ParamError(f"{text!r} has no name before its parameters; write NAME:key=value")
    given: dict[str, str] = {}
    last = ""
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key.isidentifier():
            if key in given:
                raise ParamError(f"{text!r} gives {key!r} twice")
            given[key] = value
            last = key
        elif last:
            given[last] += ":" + part
        else:
            raise ParamError(f"{part!r} in {text!r} is not key=value; write {name}:key=value:other=value")
    return name, given


def defaults(component: type[Any]) -> dict[str, Any]:
    """The default of each parameter that has one."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(component):
        if field.init and field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.init and field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


def to_plain(component: Any) -> dict[str, Any]:
    """The parameters as plain JSON values, every default written out."""
    return {f.name: plain(getattr(component, f.name)) for f in dataclasses.fields(component) if f.init}


@dataclasses.dataclass(frozen=True)
class Described:
    """One parameter, for `robustkit info` and the catalogue; `default` is "required" where there is none."""

    name: str
    type: str
    default: str
    unit: str
    range: str
    help: str


def describe(component: type[Any]) -> tuple[Described, ...]:
    """The parameters of a dataclass in their order."""
    hints, known = _hints(component), defaults(component)
    rows = []
    for field in dataclasses.fields(component):
        if not field.init:
            continue
        low, high = field.metadata.get("low"), field.metadata.get("high")
        rows.append(
            Described(
                name=field.name,
                type=type_name(hints[field.name]),
                default=as_text(known[field.name]) if field.name in known else "required",
                unit=field.metadata.get("unit", ""),
                range="" if low is None and high is None else _range(low, high),
                help=field.metadata.get("help", ""),
            )
        )
    return tuple(rows)


def _hints(component: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(component)
    except NameError as error:
        raise UsageError(
            f"{component.__module__}.{component.__qualname__}: {error}; the types of its fields must be imported "
            "in its module, not under TYPE_CHECKING"
        ) from error


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
