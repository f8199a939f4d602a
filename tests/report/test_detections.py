"""What detectors say, as a figure, a table and pictures of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from robustkit.pipeline.pictures import images_as_npz, picture_path
from robustkit.report.detections import detection_scores
from robustkit.report.drawing import SUFFIXES
from robustkit.report.html import write_report
from robustkit.report.triggers import triggers
from tests.conftest import Bench

HOSTILE = "<script>alert(1)</script>\"'&"
SHARE = {"value": 0.5, "low": 0.2, "high": 0.8, "n": 8}


def model_record(subject: str, by_class: list[float], *, flagged: bool, **more: Any) -> dict[str, Any]:
    return {
        "key": f"k-{subject}",
        "kind": "detector",
        "subject": subject,
        "seed": 0,
        "detector": "mmbd",
        "scope": "model",
        "error": None,
        "flagged": flagged,
        "classes": [int(np.argmax(by_class))],
        "p_value": 0.01 if flagged else 0.4,
        "by_class": by_class,
        "limit": 3.9,
        "note": "",
        **more,
    }


def input_record(subject: str, attack: str, eps: float, level: float, limit: float) -> dict[str, Any]:
    quantiles = {f"{q:g}": level + q for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    return {
        "key": f"{subject}{attack}{eps}",
        "kind": "inputs",
        "subject": subject,
        "seed": 0,
        "attack": attack,
        "norm": "linf",
        "eps": eps,
        "detector": "squeeze",
        "error": None,
        "adversarial": 5,
        "clean": 6,
        "held": 7,
        "tpr": SHARE,
        "fpr": SHARE,
        "auroc": {"value": 0.9, "low": 0.8, "high": 1.0},
        "limit": limit,
        "spread": {"clean": {"0.05": 0.0, "0.25": 0.1, "0.5": 0.2, "0.75": 0.3, "0.95": 0.4}, "adversarial": quantiles},
    }


@pytest.fixture
def said() -> list[dict[str, Any]]:
    return [
        model_record("a", [0.1, 5.0, -1.0], flagged=True),
        model_record("b", [0.1, 1.0, -1.0], flagged=False),
        model_record("c", [0.0], flagged=False, error="ValueError: boom"),
        input_record("a", "pgd", 0.1, 1.0, 0.5),
        input_record("a", "pgd", 0.2, 2.0, 0.5),
        input_record("b", "pgd", 0.1, 3.0, 0.7),
    ]


def test_every_score_and_threshold_is_drawn_and_told(said: list[dict[str, Any]]) -> None:
    table = pd.DataFrame({"defense": ["a", "b", "c"]})
    drawing = detection_scores(said, table)
    assert drawing is not None
    data = drawing.data
    classes = data[data["scope"] == "model"]
    assert len(classes) == 6
    assert classes[classes["flagged"] == True]["score"].tolist() == [5.0]  # noqa: E712 - texts and NaN are there, too
    assert set(data["group"]) == {"classes", "clean", "pgd @ 0.1", "pgd @ 0.2"}
    clean = data[(data["group"] == "clean") & (data["defense"] == "a")]
    assert len(clean) == 5  # once, though two attacks stand beside it
    first, second = drawing.figure.axes
    assert [axes.get_title() for axes in (first, second)] == ["mmbd", "squeeze"]
    assert [text.get_text() for text in first.texts] == ["class 1"]
    levels = {tuple(line.get_xdata()) for axes in (first, second) for line in axes.lines}
    assert {(3.9, 3.9), (0.5, 0.5), (0.7, 0.7)} <= levels
    assert "threshold" in [text.get_text() for text in drawing.figure.legends[0].get_texts()]


def test_without_scores_there_is_no_figure() -> None:
    old = input_record("a", "pgd", 0.1, 1.0, 0.5)
    del old["spread"], old["limit"]  # as earlier versions left them
    assert detection_scores([old], pd.DataFrame({"defense": ["a"]})) is None
    assert detection_scores([], pd.DataFrame({"defense": ["a"]})) is None


def test_the_page_has_figure_table_and_triggers(said: list[dict[str, Any]], tmp_path: Path) -> None:
    bench = Bench().clean("a").attack("a", "pgd", [0]).clean("b").attack("b", "pgd", [0])
    share = {"value": 0.99, "low": 0.95, "high": 1.0, "n": 90}
    manifest = {"poison": HOSTILE, "target": 1, "seed": 0, "relabelled": 3, "samples": 30, "hash": "0" * 64}
    backdoor = {"key": "d", "kind": "backdoor", "subject": "a", "seed": 0, "error": None, "manifest": manifest}
    said = [backdoor | {"accuracy": share, "asr": share, "ra": share}, *said]
    path = picture_path(tmp_path, "k-a")
    path.parent.mkdir(parents=True)
    path.write_bytes(images_as_npz({f"class 1: {HOSTILE}": torch.rand(3, 6, 6), "many": torch.rand(4, 1, 6, 6)}))
    report = write_report(bench.records, bench.table(), {}, bench.columns.__getitem__, tmp_path, said)
    text = report.read_text(encoding="utf-8")
    assert 'id="detections"' in text
    assert 'id="backdoors"' in text
    assert "flagged, p = 0.01, class 1" in text
    assert "boom" in text
    assert text.count("<script") == 1
    section = re.findall(r'<section id="triggers">.*?</section>', text, flags=re.DOTALL)[0]
    assert section.count("<img") == 2
    assert "class 1: &lt;script&gt;" in section
    names = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {f"detections{suffix}" for suffix in (*SUFFIXES, ".csv")} <= names


def test_triggers_stay_within_their_budget(tmp_path: Path) -> None:
    records = [model_record(name, [1.0, 2.0], flagged=False) for name in "abcdef"]
    for record in records:
        path = picture_path(tmp_path, record["key"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images_as_npz({"trigger": torch.rand(3, 64, 64)}))
    shown = triggers(records, tmp_path, budget=50_000)
    assert 0 < len(shown) < 6
    assert sum(len(uri) for found in shown for uri in found.images.values()) <= 50_000
    assert triggers(records[:1], tmp_path / "elsewhere") == []
