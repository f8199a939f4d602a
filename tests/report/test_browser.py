"""The page in headless Chromium: it loads in silence, sorts, chooses images, fits a phone, prints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustkit.report.html import write_report
from tests.report.browser import PROGRAM, Browser
from tests.report.conftest import MakeRun

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")
HOSTILE = '<script>console.error("broke out")</script>"><img src=x onerror=console.error(2)>'
COLUMN = (
    """[...document.querySelectorAll("table.main tbody tr")].map((row) => row.cells[{}].innerText.split("\\n")[0])"""
)
HEADS = """[...document.querySelectorAll("table.main thead th")].map((head) => head.innerText.replace(/ [↕↑↓]/, ""))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with contextlib.closing(Browser(tmp_path_factory.mktemp("chromium"))) as found:
        yield found


@pytest.fixture
def page(make_run: MakeRun) -> Path:
    run = make_run(["zebra", "ant", HOSTILE], ["pgd", "near", HOSTILE], classes=[HOSTILE, "b", "c"])
    run.records[5] |= {"status": "error", "error": HOSTILE, "metrics": {}, "seconds": None}
    return write_report(run.records, run.table(), {}, run.columns.__getitem__, run.folder)


def test_it_works(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]

    # sorting: names first upwards, numbers first downwards, what has no number last both ways
    assert browser.evaluate(COLUMN.format(0))[:2] == ["zebra", "ant"]
    press = 'document.querySelectorAll("table.main thead button")[{}].click()'
    for place, first in ((0, "ascending"), (1, "descending")):
        browser.evaluate(press.format(place))
        head = f'document.querySelectorAll("table.main thead th")[{place}].getAttribute("aria-sort")'
        assert browser.evaluate(head) == first
    browser.evaluate(press.format(0))
    names = browser.evaluate(COLUMN.format(0))
    assert [name for name in names if name in ("ant", "zebra")] == ["ant", "zebra"]
    browser.evaluate(press.format(0))
    names = browser.evaluate(COLUMN.format(0))
    assert [name for name in names if name in ("ant", "zebra")] == ["zebra", "ant"]
    pgd = browser.evaluate(HEADS).index("pgd")
    for _ in range(2):
        browser.evaluate(press.format(pgd))
        assert browser.evaluate(COLUMN.format(pgd))[-1] == "error"

    # images: one attack and one class at a time, or all classes
    visible = '[...document.querySelectorAll(".card")].filter((card) => card.offsetParent !== null).length'
    choose = (
        "for (const [name, value] of {}) {{ const box = document.getElementById(name); box.value = value;"
        ' box.dispatchEvent(new Event("change")); }}'
    )
    browser.evaluate(choose.format('[["choose-attack", "1"], ["choose-class", ""]]'))
    assert browser.evaluate(visible) == 3 * 10
    browser.evaluate(choose.format('[["choose-class", "0"]]'))
    assert 0 < browser.evaluate(visible) < 30
    loaded = '[...document.querySelectorAll("img")].every((image) => image.complete && image.naturalWidth > 0)'
    assert browser.evaluate(loaded)
    assert browser.complaints == []


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate('document.querySelector("h1").getBoundingClientRect().top') >= 0
    small = """[...document.querySelectorAll("p, td, th, figcaption, button, select, dd")]
        .filter((each) => each.offsetParent !== null && parseFloat(getComputedStyle(each).fontSize) < 12).length"""
    assert browser.evaluate(small) == 0


def test_it_prints(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert browser.complaints == []
