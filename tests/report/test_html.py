"""The page: what it says, that it stays small and whole, and that no name breaks out of it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robustkit.report.current import is_current
from robustkit.report.drawing import SUFFIXES
from robustkit.report.html import write_report
from tests.conftest import RIGHT, Bench, N
from tests.report.conftest import MakeRun
from tests.report.test_detections import input_record

HOSTILE = "<script>alert(1)</script>\"'`&amp; $x^2$ \\frac ]]> 猫 😀 \u202e"
ENVIRONMENT = {"processor": "<b>chip</b>", "versions": {"torch": "2.<i>0"}, "threads": 1, "device": "cpu"}


class Reader(HTMLParser):
    """Tags, attributes and texts of a page, as a browser takes them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(bench: Bench, folder: Path) -> str:
    path = write_report(bench.records, bench.table(), ENVIRONMENT, bench.columns.__getitem__, folder)
    return path.read_text(encoding="utf-8")


def words(text: str) -> str:
    """What a reader sees, in one line, without the places at which names may break."""
    return " ".join("".join(Reader(text.replace("<wbr>", "")).texts).split())


@pytest.fixture
def bench() -> Bench:
    distances = np.array([0.02, 0.04, 0.06, 0.08, 0.2, 0.3, 0.0, 0.0])
    made = Bench()
    for defense, seconds in (("standard", 10.0), ("pgd_at:steps=5", 40.0)):
        made.clean(defense).attack(defense, "pgd:steps=50", [0, 1])
        made.attack(defense, "near", list(range(6)), goal="minimal", distances=distances)
        for record in made.records[-3:]:
            record["subject"]["training_seconds"] = seconds
    return made


def test_the_page_says_what_was_asked_and_what_came_of_it(bench: Bench, tmp_path: Path) -> None:
    text = words(page(bench, tmp_path))
    assert "2 models were attacked in 2 ways on the first 8 test images of tiny" in text
    assert "change every pixel value by at most 0.1" in text
    assert "25.0" in text  # worst case at 0.1: two of the eight stay right
    assert "Robustness curves" in text
    assert "Accuracy against training cost" in text


def test_certificates_stand_in_the_table_and_in_a_figure(bench: Bench, tmp_path: Path) -> None:
    for defense, radii in (("standard", [0.0] * 8), ("pgd_at:steps=5", [0.15, 0.15, 0.15, 0.05, 0.05, 0.0, 0.0, 0.0])):
        bench.certify(defense, "interval", radii, guarantee="Always.")
    text = words(page(bench, tmp_path))
    assert "certified interval" in text
    assert "37.5" in text  # three of eight at 0.1
    assert "interval: Always." in text
    drawn = pd.read_csv(tmp_path / "figures" / "certified.csv")
    mine = drawn[drawn["defense"] == "pgd_at:steps=5"]
    assert mine.loc[mine["radius"] == 0, "accuracy"].item() == 0.75  # the last two are predicted wrong
    assert mine.loc[mine["radius"].between(0.06, 0.14), "accuracy"].unique().tolist() == [0.375]
    assert mine["radius"].max() == pytest.approx(0.15)
    assert (mine["low"] <= mine["accuracy"]).all()
    assert (mine["accuracy"] <= mine["high"]).all()


def test_an_error_is_plain_and_no_number(tmp_path: Path) -> None:
    made = Bench().clean("a").attack("a", "pgd", [], status="error", error="ValueError: boom", traceback=["line 1"])
    text = page(made, tmp_path)
    (cell,) = re.findall(r'<td class="error"[^>]*>(.*?)</td>', text, flags=re.DOTALL)[:1]
    assert "error" in cell
    assert "data-value" not in re.findall(r'<td class="error"[^>]*>', text)[0]
    assert "ValueError: boom" in words(text)
    assert "error in a / pgd: ValueError: boom" in words(text)


def test_flags_stand_beside_their_model(tmp_path: Path) -> None:
    made = Bench().clean("a").attack("a", "pgd", [0]).clean("b").attack("b", "pgd", [0], restored=["train flags"])
    for record in made.records[:2]:
        record["subject"] |= {"obfuscates": True, "collapsed": [7]}
        record["metrics"] = {**record["metrics"], "violations": 0}
    rows = re.findall(r'<tr>\s*<th scope="row" class="name".*?</tr>', page(made, tmp_path), flags=re.DOTALL)
    first, second = (re.findall(r'class="flag" title="[^"]*">([^<]*)<', row) for row in rows)
    assert first == ["hides gradients", "collapsed"]
    assert second == ["violations", "restored"]


def test_no_name_breaks_out(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run([HOSTILE, "b"], [HOSTILE, "pgd"], classes=[HOSTILE, "<img src=x onerror=alert(1)>", "c"])
    for record in run.records:
        record["dataset"]["name"] = HOSTILE
        record["subject"]["model"] = HOSTILE
        if record["component"]:
            record["component"] |= {"params": {HOSTILE: HOSTILE}, "libraries": {HOSTILE: HOSTILE}}
    run.records[1] |= {"status": "error", "error": HOSTILE, "traceback": [HOSTILE], "metrics": {}, "seconds": None}
    path = write_report(run.records, run.table(), ENVIRONMENT, run.columns.__getitem__, run.folder)
    text = path.read_text(encoding="utf-8")
    reader = Reader(text)
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("script") == 1
    assert "i" not in [tag for tag, attributes in reader.tags if not attributes]
    assert "b" not in tags
    assert not [a for _, attributes in reader.tags for a in attributes if a.startswith("on")]
    assert all(attributes["src"].startswith("data:") for tag, attributes in reader.tags if tag == "img")
    assert HOSTILE.replace(" ", "") in words(text).replace(" ", "")
    svg = (run.folder / "figures" / "accuracies.svg").read_text(encoding="utf-8")
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg


def test_the_page_asks_for_nothing_else(bench: Bench, tmp_path: Path) -> None:
    text = page(bench, tmp_path)
    for _, attributes in Reader(text).tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:"))
    assert "@import" not in text
    assert "default-src 'none'" in text.replace("&#39;", "'")


def test_ids_are_unique(bench: Bench, tmp_path: Path) -> None:
    ids = [attributes["id"] for _, attributes in Reader(page(bench, tmp_path)).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_what_the_figures_point_to_is_there(bench: Bench, tmp_path: Path) -> None:
    text = page(bench, tmp_path)
    ids = {attributes["id"] for _, attributes in Reader(text).tags if "id" in attributes}
    pointed = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert pointed
    assert pointed <= ids


def test_figures_are_files_with_their_numbers(bench: Bench, tmp_path: Path) -> None:
    page(bench, tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    for name in ("accuracies", "curves", "cost"):
        assert {f"{name}{suffix}" for suffix in (*SUFFIXES, ".csv")} <= names
    assert "queries.svg" not in names  # none of these attacks counts them
    table = bench.table()
    data = pd.read_csv(tmp_path / "figures" / "accuracies.csv")
    clean = data[(data["defense"] == "standard") & (data["attack"] == "clean")].iloc[0]
    assert clean["accuracy"] == RIGHT.sum() / N == table.loc[0, "clean"]
    curve = pd.read_csv(tmp_path / "figures" / "curves.csv")
    for _, line in curve[curve["attack"] == "near"].groupby("defense"):
        assert line["accuracy"].iloc[0] == 0.75
        assert (np.diff(line["accuracy"]) <= 0).all()


def test_queries_are_drawn_where_they_were_counted(bench: Bench, tmp_path: Path) -> None:
    for record in bench.records:
        if record["component"] and record["component"]["label"].startswith("pgd"):
            bench.columns[record["key"]]["queries"] = np.array([1, 30, 500, 500, 500, 500, 0, 0])
    assert "Robust accuracy against queries" in words(page(bench, tmp_path))
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"queries{suffix}" for suffix in (*SUFFIXES, ".csv")} <= names
    data = pd.read_csv(tmp_path / "figures" / "queries.csv")
    assert set(data["defense"]) == {"standard", "pgd_at:steps=5"}
    mine = data[data["defense"] == "standard"].set_index("queries")["accuracy"]
    assert (mine.loc[1], mine[mine.index < 30].iloc[-1], mine.loc[500]) == (5 / N, 5 / N, 4 / N)
    assert mine.index.is_monotonic_increasing
    drawn = (tmp_path / "figures" / "queries.svg").read_text(encoding="utf-8")
    assert ">100<" in drawn  # plain numbers on the logarithmic axis
    assert "mathdefault" not in drawn


def test_the_same_records_give_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    first, second = page(bench, tmp_path / "a"), page(bench, tmp_path / "b")
    assert first == second
    for name in ("accuracies.svg", "accuracies.pdf", "curves.png"):
        assert (tmp_path / "a/figures" / name).read_bytes() == (tmp_path / "b/figures" / name).read_bytes()


def test_a_page_knows_whether_it_shows_these_records(bench: Bench, tmp_path: Path) -> None:
    assert not is_current(bench.records, tmp_path)
    page(bench, tmp_path)
    assert is_current(bench.records, tmp_path)
    bench.attack("standard", "another", [3])
    assert not is_current(bench.records, tmp_path)


def test_the_gallery_shows_the_kept_images(make_run: MakeRun) -> None:
    run = make_run(["a", "b"], ["pgd", "fgsm"])
    path = write_report(run.records, run.table(), ENVIRONMENT, run.columns.__getitem__, run.folder)
    text = path.read_text(encoding="utf-8")
    cards = re.findall(r'<figure class="card.*?</figure>', text, flags=re.DOTALL)
    assert len(cards) == 2 * 2 * 10
    shown = [card for card in cards if " hidden>" not in card]
    assert len(shown) == 2  # one attack, one class, both models
    kept = run.pictures["1"]
    uri = re.findall(r'src="data:image/png;base64,([^"]+)" alt="adversarial"', cards[0])[0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    np.testing.assert_array_equal(pixels, np.rint(kept["x_adv"][0, 0] * 255).astype(np.uint8))
    assert f"{100 * kept['adv_confidence'][0]:.1f} %" in cards[0]


@pytest.mark.parametrize(
    ("shape", "side"),
    [pytest.param((1, 28, 28), 28, marks=pytest.mark.slow), ((3, 32, 32), 32), ((3, 160, 160), 96)],
)
def test_eight_defenses_and_ten_attacks_fit_three_megabytes(
    shape: tuple[int, int, int], side: int, make_run: MakeRun
) -> None:
    run = make_run(
        [f"defense_{i}:steps=10" for i in range(8)], [f"attack_{i}:steps=50" for i in range(10)], shape=shape
    )
    said = [
        input_record(f"defense_{i}:steps=10", f"attack_{j}:steps=50", 0.1, j, 0.5) | {"detector": detector}
        for i in range(8)
        for j in range(10)
        for detector in ("feature_squeezing", "mahalanobis")
    ]
    path = write_report(run.records, run.table(), ENVIRONMENT, run.columns.__getitem__, run.folder, said)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= 3_000_000
    cards = re.findall(r'<figure class="card.*?</figure>', text, flags=re.DOTALL)
    assert len(cards) >= 80 if side < 96 else len(cards) >= 8
    uri = re.findall(r'src="data:image/png;base64,([^"]+)" alt="adversarial"', cards[0])[0]
    width = Image.open(io.BytesIO(base64.b64decode(uri))).width
    assert width == side if side < 96 else width < 160
