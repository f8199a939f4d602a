from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def thirds(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three classes that differ in which third of a 9 x 9 image is bright."""
    path = tmp_path_factory.mktemp("studies") / "thirds.npz"
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 400)
    x = generator.integers(0, 90, (400, 1, 9, 9))
    for row, label in enumerate(y):
        x[row, 0, 3 * label : 3 * label + 3] += 60
    np.savez(path, x=x.astype(np.uint8), y=y)
    return f"npz:{path}"
