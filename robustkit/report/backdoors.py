"""What is said of backdoors: the table of a bench, and the page of a scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from robustkit.report.format import MISSING, interval

Record = Mapping[str, Any]


def backdoor_table(records: Sequence[Record]) -> str:
    """A row a model: accuracy, success rate and robust accuracy of the trigger, and what each detector says."""
    head, rows = backdoor_rows(records)
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *backdoor_lines(records)]) + "\n"


def backdoor_rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of that table."""
    rows = []
    models = dict.fromkeys((record["subject"], record["seed"]) for record in records)
    detectors = list(dict.fromkeys(r["detector"] for r in records if r["kind"] == "detector"))
    head = ["model", "seed", "clean", "ASR", "RA", *detectors]
    for label, seed in models:
        mine = [record for record in records if (record["subject"], record["seed"]) == (label, seed)]
        backdoor = next((record for record in mine if record["kind"] == "backdoor"), None)
        cells = [str(label), str(seed)]
        cells += [MISSING if backdoor is None else share(backdoor[name]) for name in ("accuracy", "asr", "ra")]
        said = {record["detector"]: verdict_words(record) for record in mine if record["kind"] == "detector"}
        cells += [said.get(name, MISSING) for name in detectors]
        rows.append(cells)
    return head, rows


def backdoor_lines(records: Sequence[Record]) -> list[str]:
    """What stands below it: the poison, notes of detectors, errors."""
    lines = []
    planted = next((record["manifest"] for record in records if record["kind"] == "backdoor"), None)
    if planted is not None:
        target = "class y to y + 1" if planted["target"] is None else f"target {planted['target']}"
        lines.append(
            f"Poison {planted['poison']}: {target}, seed {planted['seed']}, "
            f"{planted['relabelled']} of {planted['samples']} labels changed, hash {planted['hash'][:16]}. "
            "ASR and RA on test images that are not of the wanted class."
        )
    lines += sorted({f"{r['detector']}: {r['note']}" for r in records if r.get("note")})
    lines += [f"error in {r['subject']} / {r['detector']}: {r['error']}" for r in records if r["error"]]
    return lines


def share(found: Mapping[str, Any]) -> str:
    """A share in percent with its interval; a dash where there was nothing to judge."""
    return MISSING if found["value"] is None else interval(found["value"], found["low"], found["high"])


def verdict_words(record: Record) -> str:
    """One verdict in a few words."""
    if record["error"]:
        return "error"
    if record["scope"] == "model":
        says = "flagged" if record["flagged"] else "not flagged"
        classes = ", ".join(map(str, record["classes"]))
        p = "" if record["p_value"] is None else f", p = {record['p_value']:.2g}"
        return f"{says}{p}, class {classes}"
    if "auroc" in record:
        return f"AUROC {record['auroc']:.3f}, TPR {100 * record['tpr']:.0f} % at FPR {100 * record['fpr']:.0f} %"
    return f"{100 * record['flagged_share']:.1f} % flagged"


def verdict_page(model: str, data: str, records: Sequence[Record], alpha: float, pictures: Mapping[str, str]) -> str:
    """The page of a scan: the verdict first, then each detector with its classes, pictures and notes.

    Args:
        model, data: what was scanned, on what.
        records: of detectors; see `robustkit.pipeline.detect`.
        alpha: of the whole portfolio.
        pictures: file names by detector.
    """
    flagged, p = portfolio(records, alpha)
    asked = [record for record in records if not record["error"]]
    lines = [f"# {model}", ""]
    if not asked:
        lines.append("**No detector gave a verdict.**")
    elif flagged:
        first = min((r for r in asked if r.get("p_value") is not None), key=lambda r: float(r["p_value"]))
        lines.append(f"**Looks backdoored**: class {first['classes'][0]} (p = {p:.2g} over {len(asked)} detectors).")
    else:
        lines.append(f"**No sign of a backdoor** (p = {p:.2g} over {len(asked)} detectors); this is no proof of none.")
    lines += ["", f"Data: {data}. p-values of {len(asked)} detectors are corrected for their number (Holm 1979).", ""]
    for record in records:
        lines += [f"## {record['detector']}", ""]
        if record["error"]:
            lines += [f"It failed: {record['error']}", ""]
            continue
        lines += [verdict_words(record) + f", score {record['score']:.3f}, {record['seconds']:.1f} s.", ""]
        if record["note"]:
            lines += [f"Mind: {record['note']}.", ""]
        if record["table"]:
            head = list(record["table"][0])
            lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
            lines += ["| " + " | ".join(str(row[name]) for name in head) + " |" for row in record["table"]]
            lines.append("")
        if record["detector"] in pictures:
            lines += [f"![{record['detector']}]({pictures[record['detector']]})", ""]
    return "\n".join(lines)


def portfolio(records: Sequence[Record], alpha: float) -> tuple[bool, float]:
    """Whether any detector's p-value holds against their number, and the smallest corrected p-value."""
    found = [float(record["p_value"]) for record in records if not record["error"] and record["p_value"] is not None]
    corrected = min(1.0, min(found) * len(found)) if found else 1.0
    return corrected <= alpha, corrected


def draw_pictures(pictures: Mapping[str, Tensor], path: Path) -> None:
    """Named images (C, H, W) in [0, 1] side by side, four in a row; by suffix .png, .svg or .pdf."""
    columns = min(4, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(2.0 * columns, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which keeps figures and a backend for the whole process
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
        array = np.clip(picture.detach().float().cpu().permute(1, 2, 0).numpy(), 0, 1)  # (H, W, C)
        axis.imshow(array.squeeze(-1) if array.shape[2] == 1 else array, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
