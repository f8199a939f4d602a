"""Text → typed, checked parameters of a component.

A component is a frozen dataclass; its fields are its parameters. `param` attaches the help, unit and range
that `robustkit info` shows and that `check` enforces when the component is built.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class UsageError(ValueError):
    """A mistake of the user's: the message names the value, the place and the remedy. Exit code 2."""


class ParamError(UsageError):
    """A parameter that does not exist, or a value that does not fit."""


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
        low, high: inclusive range of a number.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def check(component: Any) -> None:
    """Raise ParamError where a number is out of the range its field declares, or a choice is not one.

    Call it from `__post_init__`, so that the API is checked like the command line.
    """
    where = type(component).__name__
    hints = typing.get_type_hints(type(component))
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        choices = _choices(hints[field.name])
        if choices and value not in choices:
            raise ParamError(f"{where}: {field.name}={value!r} is not one of {_listing(choices)}")
        low, high = field.metadata.get("low"), field.metadata.get("high")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isnan(value) or (low is not None and value < low) or (high is not None and value > high):
            raise ParamError(f"{where}: {field.name}={value!r} must be {_range(low, high)}")


def build(component: type[T], given: Mapping[str, Any], name: str) -> T:
    """Build `component` from `given`; texts are parsed by the field's type, other values taken as they are.

    Args:
        component: a dataclass.
        given: parameters by name.
        name: what the user called it, for messages.

    Raises:
        ParamError: unknown parameter (with close names), value that cannot be read, missing or out of range.
    """
    hints = typing.get_type_hints(component)
    fields = {f.name: f for f in dataclasses.fields(component) if f.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            raise ParamError(f"{name} has no parameter {key!r}{suggest(key, fields)}")
        values[key] = parse(value, hints[key], f"{name}:{key}")
    missing = [
        f.name
        for f in fields.values()
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ParamError(f"{name} needs {', '.join(missing)}; write {name}:{missing[0]}=VALUE")
    try:
        return component(**values)
    except ValueError as error:
        raise ParamError(f"{name}: {error}") from error


def parse(value: Any, hint: Any, where: str) -> Any:
    """Read `value` as `hint`: bool, int, float (also "8/255"), str, Literal, tuple[T, ...] (joined by "+"),
    and `T | None` ("none"). Numbers and lists from TOML or Python are taken where they fit.

    Raises:
        ParamError: the value does not fit.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(value, typing.get_args(hint), where)
    if origin is Literal:
        options = typing.get_args(hint)
        for option in options:
            if value == option or (isinstance(value, str) and value == str(option)):
                return option
        raise ParamError(
            f"{where}={value!r} is not one of {_listing(options)}{suggest(str(value), map(str, options))}"
        )
    if origin is tuple:
        items = value.split("+") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            items = [items]
        return tuple(parse(item, typing.get_args(hint)[0], where) for item in items)
    reader = _READERS.get(hint)
    if reader is None:
        if isinstance(value, hint):
            return value
        raise ParamError(
            f"{where}: a {getattr(hint, '__name__', hint)} cannot be written as text; use the Python API"
        )
    try:
        return reader(value)
    except (ValueError, TypeError, ZeroDivisionError):
        raise ParamError(f"{where}={value!r} is not {_WORDS[hint]}") from None


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


def to_plain(component: Any) -> dict[str, Any]:
    """The parameters as plain JSON values, every default written out."""
    return {f.name: _plain(getattr(component, f.name)) for f in dataclasses.fields(component) if f.init}


@dataclasses.dataclass(frozen=True)
class Described:
    """One parameter, for `robustkit info` and the catalogue."""

    name: str
    type: str
    default: str
    unit: str
    range: str
    help: str


def describe(component: type[Any]) -> tuple[Described, ...]:
    """The parameters of a dataclass in their order."""
    hints = typing.get_type_hints(component)
    rows = []
    for field in dataclasses.fields(component):
        if not field.init:
            continue
        low, high = field.metadata.get("low"), field.metadata.get("high")
        rows.append(
            Described(
                name=field.name,
                type=_type_name(hints[field.name]),
                default=_default(field),
                unit=field.metadata.get("unit", ""),
                range="" if low is None and high is None else _range(low, high),
                help=field.metadata.get("help", ""),
            )
        )
    return tuple(rows)


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message: the closest names, or all of them where none is close and they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {_listing(close)}?"
    return f"; it has {_listing(names)}" if 0 < len(names) <= 12 else ""


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return str(_plain(field.default_factory()))
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None or isinstance(field.default, bool):
        return str(field.default).lower()
    return str(_plain(field.default))


def _parse_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        if type(None) in options:
            return None
        raise ParamError(f"{where} may not be none")
    message = ""
    for option in options:
        if option is not type(None):
            try:
                return parse(value, option, where)
            except ParamError as error:
                message = message or str(error)
    raise ParamError(message)


def _read_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else _reject()


def _read_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        _reject()
    return int(value)


def _read_float(value: Any) -> float:
    if isinstance(value, bool):
        _reject()
    if isinstance(value, str) and "/" in value:
        above, below = value.split("/")
        value = float(above) / float(below)
    number = float(value)
    return number if math.isfinite(number) else _reject()


def _read_str(value: Any) -> str:
    return value if isinstance(value, str) else _reject()


def _reject() -> typing.NoReturn:
    raise ValueError


_READERS: dict[Any, typing.Callable[[Any], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: 'a finite number (also as "8/255")',
    str: "a text",
}


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _listing(items: Iterable[Any]) -> str:
    return ", ".join(str(item) or "''" for item in items)


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _type_name(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(option) for option in typing.get_args(hint))
    if origin is Literal:
        return " | ".join(str(option) or "''" for option in typing.get_args(hint))
    if origin is tuple:
        return f"list of {_type_name(typing.get_args(hint)[0])}"
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))
