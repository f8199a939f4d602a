from __future__ import annotations

import re

import pytest
from rich.console import Console

from robustkit.report.footer import footer
from robustkit.report.format import interval, percent, readable
from robustkit.report.terminal import show
from tests.conftest import Bench


def _printed(bench: Bench, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    lines = footer(bench.records, {"versions": {"torch": "2.0"}})
    show(readable(bench.table(), bench.records), lines, "Robust accuracy", console)
    console.file.close()
    return console.export_text()


def test_shares_are_percent_with_one_decimal() -> None:
    assert percent(0.8695) == "87.0"
    assert interval(0.5, 0.25, 0.75) == "50.0 [25.0, 75.0]"


def test_a_failed_cell_reads_error_and_an_absent_one_a_dash() -> None:
    bench = Bench().clean("a").attack("a", "pgd", [0]).attack("a", "fgsm", [], status="error", error="E: boom")
    bench.clean("b").attack("b", "fgsm", [1])
    shown = readable(bench.table(), bench.records).set_index("defense")
    assert shown.loc["a", "fgsm"] == "error"
    assert shown.loc["b", "pgd"] == "–"
    assert shown.loc["a", "worst case"].startswith("62.5 [")
    assert shown.loc["a", "status"] == "1 of 3 failed"
    assert not shown.map(lambda text: text in ("", "nan", "None")).any(axis=None)


def test_nothing_that_failed_reads_zero() -> None:
    bench = Bench().clean("a", status="error", error="x").attack("a", "pgd", [], status="error", error="x")
    row = readable(bench.table(), bench.records).iloc[0]
    assert (row["clean"], row["pgd"], row["worst case"]) == ("error", "error", "error")
    assert row["ASR"] == "–"


def test_several_seeds_end_in_mean_and_standard_deviation() -> None:
    bench = Bench()
    for seed, fell in enumerate([[0], [0, 1, 2]]):
        bench.clean("a", seed).attack("a", "pgd", fell, seed=seed)
    shown = readable(bench.table(), bench.records)
    assert list(shown["seed"]) == ["0", "1", "mean ± sd of 2"]
    assert shown.iloc[2]["pgd"] == "50.0 ± 17.7"
    assert shown.iloc[2]["clean"] == "75.0 ± 0.0"


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_terminal_table_fits_its_width_and_says_everything(width: int) -> None:
    bench = Bench()
    for defense in ("standard", "pgd_at"):
        bench.clean(defense).attack(defense, "fgsm", [0]).attack(defense, "pgd", [0, 1])
    text = _printed(bench, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in ("standard", "pgd_at", "fgsm", "worst", "75.0", "[40.9, 92.9]"):
        assert word in text
    if width >= 120:
        for row in ("standard", "pgd_at"):
            assert re.search(rf"{row}.*75\.0", text)


def test_names_of_plugins_are_no_markup() -> None:
    bench = Bench().clean("[bold]x[/bold]").attack("[bold]x[/bold]", "[red]pgd", [0])
    text = _printed(bench, 200)
    assert "[bold]x[/bold]" in text
    assert "[red]pgd" in text


def test_the_footer_states_what_a_reader_must_know() -> None:
    bench = Bench().clean("a", 0).attack("a", "pgd", [0], eps=8 / 255, seed=0)
    bench.clean("a", 3).attack("a", "pgd", [0], eps=8 / 255, seed=3)
    text = " ".join(footer(bench.records, {"versions": {"torch": "2.9"}, "processor": "P", "threads": 2}))
    for word in ("tiny", "n = 8", "linf eps=8/255", "seeds 0, 3", "d 1", "torch 2.9", "upper bound", "float32"):
        assert word in text
    assert "0.1" not in text.replace("[0, 1]", "")


def test_the_footer_names_errors_violations_and_hidden_gradients() -> None:
    bench = Bench().clean("a").attack("a", "pgd", [0]).attack("a", "fgsm", [], status="error", error="E: boom")
    bench.records[1]["restored"] = ["weights"]
    for record in bench.records:
        record["subject"]["obfuscates"] = True
    lines = footer(bench.records, {})
    assert "error in a / fgsm: E: boom" in lines
    assert any("a / pgd: 1 adversarial" in line for line in lines)
    assert any("put back weights" in line for line in lines)
    assert sum("hides gradients" in line for line in lines) == 1
