"""What all figures share: colours, files, and SVG for a page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from robustkit.files import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
"""For eyes of all kinds (Okabe & Ito 2008, https://jfly.uni-koeln.de/color/); yellow gave way to grey."""
MARKERS = "os^DvPX*<"
"""One more than colours, so that marks alone tell 72 models apart."""
_DASHES = ("-", "--", ":", "-.")
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
SUFFIXES = (".svg", ".pdf", ".png")

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "font.size": 9,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of plugins are text, never formulas
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@dataclass(frozen=True)
class Drawing:
    """A figure with what it shows.

    Args:
        name: of its files.
        title, caption: for people.
        figure: of matplotlib.
        data: every number that is drawn, tidy.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    data: pd.DataFrame


def look(place: int) -> dict[str, Any]:
    """Colour, marker and line of the model in this place; colour is never the only difference."""
    return {
        "color": COLORS[place % len(COLORS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": _DASHES[(place // len(COLORS)) % len(_DASHES)],
    }


def styled() -> Any:
    """A context in which figures are made and saved."""
    return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches; not pyplot's, which keeps figures and a backend for the whole process."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Each figure as SVG, PDF and PNG, and its numbers as CSV."""
    written = []
    for drawing in drawings:
        with styled():
            drawing.figure.draw_without_rendering()  # which settles the layout, once for all formats
        drawing.figure.set_layout_engine("none")
        for suffix in SUFFIXES:
            written.append(folder / f"{drawing.name}{suffix}")
            write_atomically(written[-1], _bytes(drawing, suffix))
        written.append(folder / f"{drawing.name}.csv")
        write_atomically(written[-1], drawing.data.to_csv(index=False).encode())
    return written


def inline_svg(drawing: Drawing, folder: Path) -> str:
    """The figure, saved before, as an <svg> element; its ids begin with its name, so that several fit one page."""
    root = ElementTree.fromstring((folder / f"{drawing.name}.svg").read_bytes())
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{drawing.name}-{value}")
            elif name == _HREF:
                element.set(name, value.replace("#", f"#{drawing.name}-", 1))
            elif name in ("d", "transform"):  # hundredths of a point are enough
                element.set(name, re.sub(r"(\d+\.\d\d)\d+", r"\1", value))
            else:
                element.set(name, value.replace("url(#", f"url(#{drawing.name}-"))
    for name in ("width", "height"):
        del root.attrib[name]
    root.set("role", "img")
    root.set("aria-label", drawing.title)
    return ElementTree.tostring(root, encoding="unicode")


def _bytes(drawing: Drawing, suffix: str) -> bytes:
    """The same bytes for the same numbers: no dates, no random ids."""
    content = io.BytesIO()
    dates: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": drawing.name}):
        drawing.figure.savefig(content, format=suffix[1:], metadata=dates.get(suffix))
    return content.getvalue()
