"""Runs made from records through the real functions, larger than a test could measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.pipeline.pictures import picture_path
from tests.conftest import RIGHT, Bench

MakeRun = Callable[..., "Run"]


class Run(Bench):
    """A bench with kept images in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.pictures: dict[str, dict[str, Any]] = {}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Every defense under every attack; half of the attacks minimise the distance."""

    def made(
        defenses: Sequence[str],
        attacks: Sequence[str],
        shape: tuple[int, int, int] = (1, 28, 28),
        classes: Sequence[str] = tuple("0123456789"),
    ) -> Run:
        rng = np.random.default_rng(0)
        run = Run(tmp_path / "run")
        count = 10 if max(shape) < 100 else 2
        x = np.zeros((count, *shape), dtype=np.float32)  # dark frames around noise: compresses like a digit
        inner = tuple(slice(side // 4, side - side // 4) for side in shape[1:])
        x[:, :, inner[0], inner[1]] = rng.random(x[:, :, inner[0], inner[1]].shape)
        label = np.arange(count) % len(classes)
        for i, defense in enumerate(defenses):
            run.clean(defense)
            run.records[-1]["subject"]["training_seconds"] = 10.0 * (i + 1)
            for j, attack in enumerate(attacks):
                distances = np.sort(rng.random(len(RIGHT))) * 0.2
                goal = "minimal" if j % 2 else "budget"
                run.attack(defense, attack, [0, 1, 2][: j % 4], goal=goal, distances=distances)
                run.records[-1]["subject"]["training_seconds"] = 10.0 * (i + 1)
                delta = rng.choice([-0.1, 0.1], x.shape).astype(np.float32)
                key = run.records[-1]["key"]
                kept = {
                    "row": np.arange(count),
                    "classes": np.array(classes, dtype=np.str_),
                    "x": x,
                    "x_adv": np.clip(x + delta, 0, 1),
                    "label": label,
                    "clean_pred": label,
                    "adv_pred": (label + rng.integers(0, 2, count)) % len(classes),
                    "clean_confidence": rng.random(count).astype(np.float32),
                    "adv_confidence": rng.random(count).astype(np.float32),
                }
                path = picture_path(run.folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, **kept)  # type: ignore[arg-type]
                run.pictures[key] = kept
        return run

    return made
