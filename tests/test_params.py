"""Text → parameters: everything that is written out reads back as the same, and every mistake says how to mend it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.params import (
    ParamError,
    UsageError,
    as_text,
    build,
    check,
    describe,
    param,
    parse,
    parse_call,
    suggest,
    to_plain,
)

Rule = Literal["step", "cyclic", 2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    steps: int = param(40, "gradient evaluations", low=1)
    step_size: float | None = param(None, "length of a step", unit="input units", low=0, high=1)
    rule: Rule = param("step", "of the step size")
    sizes: tuple[int, ...] = param((1, 2), "of the layers", low=1)
    targeted: bool = param(False, "y are targets")
    source: str = param("", "where from")
    weights: tuple[float, ...] | None = param(None)

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needy:
    path: str = param(help="of the file")
    depth: int = dataclasses.field(default_factory=lambda: 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plainless:
    table: dict[str, int] = dataclasses.field(default_factory=dict)


SAMPLES = st.builds(
    Sample,
    steps=st.integers(1, 10**12),
    step_size=st.none() | st.floats(0, 1) | st.integers(0, 255).map(lambda n: n / 255),
    rule=st.sampled_from(["step", "cyclic", 2]),
    sizes=st.lists(st.integers(1, 10**6), max_size=4).map(tuple),
    targeted=st.booleans(),
    source=st.from_regex(r"[a-z0-9_./+,:-]*", fullmatch=True),
    weights=st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(tuple),
)


@settings(deadline=None)
@given(SAMPLES)
def test_plain_values_survive_json(sample: Sample) -> None:
    text = json.dumps(to_plain(sample), allow_nan=False)
    assert build(Sample, json.loads(text), "sample") == sample


@settings(deadline=None)
@given(SAMPLES)
def test_text_reads_back_as_the_same(sample: Sample) -> None:
    fields = [f.name for f in dataclasses.fields(Sample)]
    text = ":".join(["sample", *(f"{name}={as_text(getattr(sample, name))}" for name in fields)])
    name, given_ = parse_call(text)
    assert name == "sample"
    assert build(Sample, given_, name) == sample


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back_exactly(value: float) -> None:
    assert parse(as_text(value), float, "x") == value
    assert "+" not in as_text(value)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused_with_a_usage_error(text: str) -> None:
    for hint in (bool, int, float, float | None, Rule, tuple[int, ...], tuple[float, ...]):
        value = None
        with contextlib.suppress(UsageError):
            value = parse(text, hint, "x")
        assert not isinstance(value, float) or math.isfinite(value)
    try:
        name, given_ = parse_call(text)
    except UsageError:
        return
    rebuilt = ":".join([name, *(f"{key}={value}" for key, value in given_.items())])
    assert rebuilt == text.strip()


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("8/255", float, 8 / 255),
        ("1e-3", float, 0.001),
        (8, float, 8.0),
        ("40", int, 40),
        (40.0, int, 40),
        ("True", bool, True),
        ("no", bool, False),
        ("none", float | None, None),
        (None, float | None, None),
        ("None", int | None, None),
        ("cyclic", Rule, "cyclic"),
        ("2", Rule, 2),
        ("1+2+3", tuple[int, ...], (1, 2, 3)),
        ("", tuple[int, ...], ()),
        ([1, "2"], tuple[int, ...], (1, 2)),
        (7, tuple[int, ...], (7,)),
        ("3", int | float, 3),
        ("3.5", int | float, 3.5),
    ],
)
def test_values_are_read_by_their_type(text: Any, hint: Any, value: Any) -> None:
    read = parse(text, hint, "x")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "message"),
    [
        ("8/0", float, "p:x='8/0' is not a finite number"),
        ("nan", float, "not a finite number"),
        ("inf", float, "not a finite number"),
        ("1/2/3", float, "not a finite number"),
        (10**400, float, "not a finite number"),
        (True, float, "not a finite number"),
        ("4.5", int, "p:x='4.5' is not a whole number"),
        (True, int, "not a whole number"),
        (math.inf, int, "not a whole number"),
        ("maybe", bool, "not true or false"),
        (1, bool, "not true or false"),
        (3, str, "not a text"),
        ("none", int, "p:x='none' is not a whole number"),
        ("cylic", Rule, "not one of step, cyclic, 2; did you mean cyclic"),
        (True, Literal[0, 1], "not one of 0, 1"),
        ("1+a", tuple[int, ...], "p:x='a' is not a whole number"),
        ("a", dict[str, int], "cannot be written as text; use the Python API"),
    ],
)
def test_what_does_not_fit_is_refused(text: Any, hint: Any, message: str) -> None:
    with pytest.raises(ParamError, match=message.replace("+", r"\+")):
        parse(text, hint, "p:x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "Sample: steps=0 must be at least 1"),
        ({"steps": "5"}, "Sample: steps='5' does not fit; it takes int"),
        ({"steps": 2.5}, "takes int"),
        ({"steps": True}, "takes int"),
        ({"step_size": 1.5}, "step_size=1.5 must be between 0 and 1"),
        ({"step_size": math.nan}, r"takes float \| none"),
        ({"rule": "often"}, r"rule='often' does not fit; it takes step \| cyclic \| 2"),
        ({"sizes": (4, 0)}, r"sizes=\(4, 0\) must be at least 1"),
        ({"sizes": [4]}, "takes list of int"),
        ({"targeted": 1}, "takes bool"),
    ],
)
def test_the_api_is_checked_like_the_command_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamError, match=message):
        Sample(**values)


def test_numbers_of_numpy_are_taken_and_written_as_pythons() -> None:
    numpy = pytest.importorskip("numpy")
    sample = Sample(steps=numpy.int64(7), step_size=numpy.float32(0.5))
    assert json.dumps(to_plain(sample)["steps"]) == "7"
    assert json.dumps(to_plain(sample)["step_size"]) == "0.5"


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("pgd", ("pgd", {})),
        (" pgd:steps=50:restarts=5 ", ("pgd", {"steps": "50", "restarts": "5"})),
        ("a.transfer:source=pkg.mod:make:steps=3", ("a.transfer", {"source": "pkg.mod:make", "steps": "3"})),
        ("npz:path=/a=b.npz", ("npz", {"path": "/a=b.npz"})),
        ("pgd:step_size=", ("pgd", {"step_size": ""})),
    ],
)
def test_calls_are_split(text: str, call: tuple[str, dict[str, str]]) -> None:
    assert parse_call(text) == call


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' has no name before its parameters"),
        (":steps=5", "has no name"),
        ("pgd:50", "'50' in 'pgd:50' is not key=value; write pgd:key=value"),
        ("pgd:steps=5:steps=6", "gives 'steps' twice"),
        ("pgd:=5", "is not key=value"),
    ],
)
def test_calls_that_cannot_be_split_say_why(text: str, message: str) -> None:
    with pytest.raises(ParamError, match=message):
        parse_call(text)


def test_unknown_and_missing_parameters() -> None:
    with pytest.raises(ParamError, match="pgd has no parameter 'stepsize'; did you mean step_size"):
        build(Sample, {"stepsize": "1"}, "pgd")
    with pytest.raises(ParamError, match="npz needs path; write npz:path=VALUE"):
        build(Needy, {}, "npz")
    with pytest.raises(ParamError, match="pgd: Sample: steps=0 must be at least 1"):
        build(Sample, {"steps": "0"}, "pgd")
    assert build(Needy, {"path": "a"}, "npz") == Needy(path="a", depth=3)


def test_types_beyond_the_known_are_left_to_the_api() -> None:
    assert build(Plainless, {"table": {"a": 1}}, "p").table == {"a": 1}
    with pytest.raises(ParamError, match="use the Python API"):
        build(Plainless, {"table": "a"}, "p")


def test_parameters_are_described_in_words() -> None:
    rows = {row.name: row for row in describe(Sample)}
    assert list(rows) == [f.name for f in dataclasses.fields(Sample)]
    size = rows["step_size"]
    assert (size.type, size.default, size.unit) == ("float | none", "none", "input units")
    assert (size.range, size.help) == ("between 0 and 1", "length of a step")
    assert (rows["rule"].type, rows["rule"].range) == ("step | cyclic | 2", "")
    assert (rows["sizes"].type, rows["sizes"].default) == ("list of int", "1+2")
    assert rows["targeted"].default == "false"
    assert {row.name: row.default for row in describe(Needy)} == {"path": "required", "depth": "3"}


def test_a_default_of_grey_levels_is_shown_as_people_write_it() -> None:
    assert as_text(8 / 255) == "8/255"
    assert as_text(0.3) == "0.3"
    assert as_text(1.0) == "1"
    assert as_text(1 / 3) == repr(1 / 3)
    assert as_text(math.inf) == "inf"


def test_types_that_cannot_be_resolved_name_the_remedy() -> None:
    component = dataclasses.make_dataclass("Hidden", [("x", "Nowhere", None)])
    with pytest.raises(UsageError, match=r"Hidden: name 'Nowhere' is not defined; .* not under TYPE_CHECKING"):
        describe(component)


def test_suggestions_are_close_names_or_a_short_list() -> None:
    assert suggest("pdg", ["pgd", "fgsm"]) == "; did you mean pgd?"
    assert suggest("zzz", ["pgd", "fgsm"]) == "; it has fgsm, pgd"
    assert suggest("zzz", map(str, range(50))) == ""
    assert suggest("zzz", []) == ""
