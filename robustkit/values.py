"""Reads and checks one value of a parameter: text, TOML or Python, by the type its field declares.

Known types: bool, int, float (also "8/255"), str, Literal, tuple[T, ...] (as text joined by "+"), and unions of
them, with None written "none". Every other type is left to the Python API.
"""

from __future__ import annotations

import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal


class UsageError(ValueError):
    """A mistake of the user's: the message names the value, the place and the remedy. Exit code 2."""


class ParamError(UsageError):
    """A parameter that does not exist, or a value that does not fit."""


def parse(value: Any, hint: Any, where: str) -> Any:
    """Read `value` as `hint`. Numbers and lists from TOML or Python are taken where they fit.

    Args:
        value: text as a user writes it, or a plain value.
        hint: the field's type.
        where: what the user called it, for messages.

    Raises:
        ParamError: the value does not fit.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(value, typing.get_args(hint), where)
    if origin is Literal:
        return _parse_choice(value, typing.get_args(hint), where)
    if origin is tuple:
        return tuple(parse(item, typing.get_args(hint)[0], where) for item in _items(value))
    if hint in _READERS:
        try:
            return _READERS[hint](value)
        except (ValueError, TypeError, ArithmeticError):
            raise ParamError(f"{where}={value!r} is not {_WORDS[hint]}") from None
    if isinstance(value, str):
        raise ParamError(f"{where}: a {type_name(hint)} cannot be written as text; use the Python API")
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` already is what `hint` says, as a component's field must be. Other types always fit."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in typing.get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)
    if hint in (bool, str, types.NoneType):
        return isinstance(value, hint)
    return True


def plain(value: Any) -> Any:
    """`value` as JSON has it: lists for tuples, Python's numbers for NumPy's."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, numbers.Number) and hasattr(value, "item"):
        return value.item()
    return value


def as_text(value: Any) -> str:
    """`value` as a user writes it; `parse` reads it back as the same."""
    if isinstance(value, list | tuple):
        return "+".join(as_text(item) for item in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        for text in (f"{value:g}", f"{round(value * 255)}/255" if abs(value) < 0.25 else ""):
            if text and _read_float(text) == value:
                return text.replace("e+", "e")  # a plus sign joins the items of a list
        return repr(value).replace("e+", "e")
    return str(value)


def duration(value: Any, where: str) -> float:
    """Seconds, from a number of them or a text: "90s", "10m", "1h", "1h30m".

    Raises:
        ParamError: it is no duration, or not more than 0.
    """
    parts = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if parts is not None:
        hours, minutes, seconds = (float(part or 0) for part in parts.groups())
        found = 3600 * hours + 60 * minutes + seconds
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    else:
        found = math.nan
    if not 0 < found < math.inf:
        raise ParamError(f"{where}={value!r} is no duration above 0; write e.g. 90s, 10m or 1h30m")
    return found


def type_name(hint: Any) -> str:
    """A type in words that a user of the command line understands."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_name(option) for option in typing.get_args(hint))
    if origin is Literal:
        return " | ".join(as_text(option) or "''" for option in typing.get_args(hint))
    if origin is tuple:
        return f"list of {type_name(typing.get_args(hint)[0])}"
    return "none" if hint is types.NoneType else getattr(hint, "__name__", str(hint))


def listing(items: Iterable[Any]) -> str:
    return ", ".join(str(item) or "''" for item in items)


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message: the closest names, or all of them where none is close and they are few."""
    import difflib  # only a message that is about to be shown needs it

    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {listing(close)}?"
    return f"; it has {listing(names)}" if 0 < len(names) <= 12 else ""


def _parse_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if types.NoneType in options and (value is None or (isinstance(value, str) and value.lower() == "none")):
        return None
    message = ""
    for option in options:
        if option is not types.NoneType:
            try:
                return parse(value, option, where)
            except ParamError as error:
                message = message or str(error)
    raise ParamError(message)


def _parse_choice(value: Any, options: tuple[Any, ...], where: str) -> Any:
    for option in options:
        if fits(value, Literal[option]) or (isinstance(value, str) and value == as_text(option)):
            return option
    close = suggest(str(value), map(as_text, options))
    raise ParamError(f"{where}={value!r} is not one of {listing(options)}{close if 'mean' in close else ''}")


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, str):
        return value.split("+") if value else ()
    return value if isinstance(value, list | tuple) else (value,)


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


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_READERS: dict[Any, Callable[[Any], Any]] = {bool: _read_bool, int: _read_int, float: _read_float, str: _read_str}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: 'a finite number (also as "8/255")',
    str: "a text",
}
