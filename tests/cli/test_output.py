"""Rows in every format."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.cli.output import Format, cell, render

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
ROWS = st.lists(st.fixed_dictionaries({"name": TEXT, "summary": TEXT}), max_size=5)


@settings(deadline=None)
@given(ROWS)
def test_csv_and_json_read_back(rows: list[dict[str, str]]) -> None:
    assert json.loads(render(rows, ["name"], Format.json)) == rows
    read = list(csv.DictReader(io.StringIO(render(rows, ["name", "summary"], Format.csv) + "\n")))
    assert read == rows


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"name": st.text(max_size=20)}), max_size=5))
def test_markdown_keeps_one_line_a_row(rows: list[dict[str, str]]) -> None:
    lines = render(rows, ["name"], Format.markdown).split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line.replace("\\|", "").count("|") == 2 for line in lines)


def test_values_in_words() -> None:
    assert [cell(value) for value in (True, False, None, 3, "a", frozenset({"b", "a"}), (), frozenset())] == [
        "yes", "no", "", "3", "a", "a, b", "", "any",
    ]  # fmt: skip
