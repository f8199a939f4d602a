"""The curve of certified accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustkit.report.certified_curves import Curve, certified_curves

ROWS = {
    "label": np.array([0, 0, 0, 0]),
    "prediction": np.array([0, 0, 1, -1]),
    "radius": np.array([0.5, 0.25, 0.9, 0.0]),
}


def test_steps_are_the_certified_accuracy() -> None:
    radii, share = Curve(model="m", certifier="c", rows=ROWS).steps()
    assert radii.tolist() == [0, 0.25, 0.5, 0.5]
    assert share.tolist() == [0.5, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_curves_give_the_same_file(tmp_path: Path, suffix: str) -> None:
    curves = [Curve(model="$m$", certifier=name, rows=ROWS) for name in ("a", "b")]
    for name in ("one", "two"):
        certified_curves(curves, tmp_path / f"{name}{suffix}")
    content = (tmp_path / f"one{suffix}").read_bytes()
    assert len(content) > 2000
    assert content == (tmp_path / f"two{suffix}").read_bytes()
