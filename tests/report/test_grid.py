from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from robustkit.report.grid import picture_grid


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (4, 3), (12, 1)])
def test_a_picture_is_written_whatever_the_images(tmp_path: Path, count: int, channels: int) -> None:
    backend = matplotlib.get_backend()
    x = torch.rand(count, channels, 8, 8)
    labels = torch.zeros(count, dtype=torch.int64)
    path = tmp_path / "deep" / "grid.png"
    picture_grid(x, (x + 0.1).clamp(0, 1), labels, labels, labels + 1, ["$cost$", "b_c"], path)
    image = imread(path)
    assert image.ndim == 3
    assert image.shape[1] > 100
    assert np.ptp(image) > 0.5
    assert matplotlib.get_backend() == backend


def test_an_attack_that_changed_nothing_is_drawn_too(tmp_path: Path) -> None:
    x, labels = torch.rand(2, 1, 6, 6), torch.tensor([0, 1])
    picture_grid(x, x, labels, labels, labels, ["a", "b"], tmp_path / "same.png")
    assert (tmp_path / "same.png").stat().st_size > 1000
