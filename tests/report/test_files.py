from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.params import UsageError
from robustkit.report.files import FORMATS, escape_latex, format_of, latex, markdown, render
from robustkit.report.format import readable
from tests.conftest import Bench

HOSTILE = r"a|b & c_d %#$ {x} ~ ^ \end{tabular} <b> 50 μ"


@pytest.fixture
def bench() -> Bench:
    made = Bench().clean("standard").attack("standard", "pgd:steps=50", [0, 1])
    return made.clean(HOSTILE).attack(HOSTILE, "pgd:steps=50", [], status="error", error="E: boom | bang")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("t.md", "markdown"), ("t.CSV", "csv"), ("a/t.json", "json"), ("t.tex", "latex"), ("t.parquet", "parquet")],
)
def test_the_suffix_names_the_format(name: str, kind: str) -> None:
    assert format_of(Path(name)) == kind


def test_an_unknown_suffix_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"\.xlsx.*\.parquet"):
        format_of(Path("t.xlsx"))


def test_numbers_survive_csv_json_and_parquet(bench: Bench, tmp_path: Path) -> None:
    table = bench.table()
    shown = readable(table, bench.records)
    frames = {}
    for kind in FORMATS:
        if kind in ("csv", "json", "parquet"):
            content = render(kind, table, shown, ["note"])
            if kind == "csv":
                frames[kind] = pd.read_csv(io.BytesIO(content))
            elif kind == "json":
                parsed = json.loads(content)
                assert parsed["notes"] == ["note"]
                frames[kind] = pd.DataFrame(parsed["rows"])
            else:
                frames[kind] = pd.read_parquet(io.BytesIO(content))
    for frame in frames.values():
        assert list(frame.columns) == list(table.columns)
        assert list(frame["defense"]) == ["standard", HOSTILE]
        assert frame.loc[0, "pgd:steps=50"] == pytest.approx(table.loc[0, "pgd:steps=50"])
        assert pd.isna(frame.loc[1, "pgd:steps=50"])
        assert frame.loc[1, "pgd:steps=50 status"] == "error"


def test_markdown_has_every_character_and_one_row_a_line(bench: Bench) -> None:
    shown = readable(bench.table(), bench.records)
    lines = markdown(shown, ["first | note", "second"]).splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[:4]]
    assert cells[0] == list(shown.columns)
    assert all(set(cell) <= {"-", ":"} for cell in cells[1])
    assert [cell.replace(r"\|", "|") for cell in cells[3]] == list(shown.iloc[1])
    assert cells[3][shown.columns.get_loc("pgd:steps=50")] == "error"
    assert lines[4:] == ["", r"- first \| note", "- second"]


def test_markdown_truncates_nothing() -> None:
    long = "x" * 500
    shown = pd.DataFrame({"defense": [long], **{f"attack{i}": ["1.0"] for i in range(60)}})
    text = markdown(shown)
    assert long in text
    assert "attack59" in text
    assert "..." not in text


def test_latex_rows_have_as_many_cells_as_columns(bench: Bench) -> None:
    shown = readable(bench.table(), bench.records)
    text = latex(shown, ["50 % of notes", "a second\nline"])
    body = re.sub(r"(?m)^%.*\n", "", text)
    assert body.startswith(r"\begin{tabular}{l")
    assert [body.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(shown)
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == len(shown.columns) - 1
    assert len([line for line in text.splitlines() if line.startswith("%")]) == 2


@given(st.text())
@settings(deadline=None)
def test_escaped_latex_has_no_active_character(text: str) -> None:
    escaped = escape_latex(text)
    bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]|\$\\pm\$", "", escaped)
    assert not set(bare) & set("\\&%$#_{}~^\n")


def test_latex_compiles(bench: Bench, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    body = latex(readable(bench.table(), bench.records), [])
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body + "\\end{document}"
    (tmp_path / "t.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=batchmode", "t.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0


def test_csv_quotes_what_needs_it(bench: Bench) -> None:
    table = bench.table()
    table.loc[1, "defense"] = 'a,"b"\nc'
    content = render("csv", table, readable(bench.table(), bench.records), [])
    rows = list(csv.reader(io.StringIO(content.decode())))
    assert rows[2][0] == 'a,"b"\nc'
    assert len({len(row) for row in rows}) == 1
    assert not np.isnan(float(rows[1][rows[0].index("clean")]))
