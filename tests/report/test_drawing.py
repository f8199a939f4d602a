"""How models are told apart in figures."""

from __future__ import annotations

from robustkit.report.drawing import COLORS, MARKERS, look


def test_a_mark_alone_tells_seventy_two_models_apart() -> None:
    marks = {(look(place)["color"], look(place)["marker"]) for place in range(72)}
    assert len(marks) == len(COLORS) * len(MARKERS) == 72
