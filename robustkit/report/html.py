"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from robustkit.files import write_atomically
from robustkit.report.backdoors import backdoor_lines, backdoor_rows
from robustkit.report.command import command_line
from robustkit.report.current import FIGURES, FILE, digest_of
from robustkit.report.drawing import Drawing, inline_svg, save
from robustkit.report.figures import drawings
from robustkit.report.footer import warnings
from robustkit.report.gallery import gallery
from robustkit.report.inputs import TITLE, input_lines, input_table, of_inputs
from robustkit.report.page import columns, details, flags, headline, question, rows, threat_sentence
from robustkit.report.sampling import sampling
from robustkit.report.spending import spending
from robustkit.report.triggers import triggers
from robustkit.tables import Record, Samples


def write_report(
    records: Sequence[Record],
    table: pd.DataFrame,
    environment: Mapping[str, Any],
    samples: Samples,
    directory: Path,
    inspections: Sequence[Record] = (),
) -> Path:
    """Write report.html and figures/ into a run directory.

    Args:
        records: of the run, one a cell.
        table: their comparison.
        environment: on what it ran.
        samples: per-sample columns by cell key.
        directory: of the run, with spec.toml and pictures/.
        inspections: what detectors said.

    Returns:
        The path of the page.
    """
    figures = drawings(records, table, samples, inspections)
    save(figures, directory / FIGURES)
    path = directory / FILE
    write_atomically(path, render_html(records, table, environment, figures, directory, inspections).encode())
    return path


def render_html(
    records: Sequence[Record],
    table: pd.DataFrame,
    environment: Mapping[str, Any],
    figures: Sequence[Drawing],
    directory: Path,
    inspections: Sequence[Record] = (),
) -> str:
    """The page as text, with figures that were saved before.

    Everything that comes from plugins or data is escaped by Jinja2 or matplotlib. The page's own policy forbids it
    the network, and every script but its own.
    """
    templates = Environment(loader=PackageLoader("robustkit.report"), autoescape=True, undefined=StrictUndefined)
    templates.filters["soft"] = _soft
    script = _part("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.get_template("report.html").render(
        style=Markup(_part("report.css")),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        digest=digest_of(records, inspections),
        question=question(records),
        threat=threat_sentence(records),
        headline=headline(records, table),
        notes=[*spending(records, environment), *sampling(records, environment), *warnings(records)],
        columns=columns(records, table),
        rows=rows(records, table),
        flags=flags(records),
        figures=[(drawing, Markup(inline_svg(drawing, directory / FIGURES))) for drawing in figures],
        gallery=gallery(records, directory),
        backdoors=_backdoors(inspections),
        detectors=_detectors(inspections),
        triggers=triggers(inspections, directory),
        details=details(records),
        command=command_line(directory),
        environment=environment,
        norm=records[0]["threat"]["norm"],
    )


def _backdoors(inspections: Sequence[Record]) -> dict[str, Any] | None:
    """The same of backdoors and of detectors that judge models and training sets."""
    found = [record for record in inspections if record["kind"] != "inputs"]
    if not found:
        return None
    head, shown = backdoor_rows(found)
    return {"title": "Backdoors", "columns": head, "rows": shown, "notes": backdoor_lines(found)}


def _detectors(inspections: Sequence[Record]) -> dict[str, Any] | None:
    """Title, columns, rows and notes of the table of detectors; None where none was asked about an attack."""
    found = of_inputs(inspections)
    if not found:
        return None
    shown = input_table(found)
    return {
        "title": TITLE,
        "columns": list(shown.columns),
        "rows": shown.to_numpy().tolist(),
        "notes": input_lines(found),
    }


def _soft(text: object) -> Markup:
    """Escaped, with places at which a long name may break."""
    return Markup(re.sub(r"([:_,/@])", r"\1<wbr>", str(escape(str(text)))))


def _part(name: str) -> str:
    return (resources.files("robustkit.report") / "templates" / name).read_text(encoding="utf-8")
