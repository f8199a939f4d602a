"""Shared by all tests: a cache of their own, so that no test reads or fills the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustkit.tables import comparison


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that ROBUSTKIT_DATA names; the test is skipped where it names none."""
    folder = os.environ.get("ROBUSTKIT_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data; ROBUSTKIT_DATA names no folder")
    return Path(folder)


N = 8
LABELS = np.zeros(N, dtype=np.int64)
RIGHT = np.array([1, 1, 1, 1, 1, 1, 0, 0], dtype=bool)


class Bench:
    """Records and samples as a run leaves them, made from what each attack is to bring down."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.columns: dict[str, dict[str, np.ndarray]] = {}

    def clean(self, defense: str, seed: int = 0, right: np.ndarray = RIGHT, **more: Any) -> Bench:
        columns = {"label": LABELS, "clean_pred": np.where(right, 0, 1)}
        return self._add("clean", defense, seed, None, 0.1, columns, {"clean_accuracy": right.mean()}, more)

    def attack(
        self,
        defense: str,
        label: str,
        fell: list[int],
        *,
        eps: float = 0.1,
        seed: int = 0,
        distances: np.ndarray | None = None,
        goal: str = "budget",
        **more: Any,
    ) -> Bench:
        adversarial = np.zeros(N, dtype=bool)
        adversarial[fell] = True
        columns = {
            "label": LABELS,
            "clean_pred": np.where(RIGHT, 0, 1),
            "adv_pred": np.where(adversarial | ~RIGHT, 1, 0),
            "attacked": RIGHT,
            "success": adversarial & RIGHT,
            "dist_linf": np.full(N, eps, dtype=np.float32) if distances is None else distances.astype(np.float32),
        }
        metrics = {"forwards": 3.0, "backwards": 2.0, "violations": 1}
        return self._add("attack", defense, seed, (label, goal), eps, columns, metrics, more)

    def certify(self, defense: str, label: str, radii: list[float], *, eps: float = 0.1, **more: Any) -> Bench:
        """A deterministic certifier that predicts as the model does on clean inputs."""
        radius = np.array(radii)
        columns = {"label": LABELS, "prediction": np.where(RIGHT, 0, 1), "radius": radius, "index": np.arange(N)}
        share = float((RIGHT & (radius >= eps)).mean())
        component = (label, "certificate")
        self._add("certify", defense, 0, component, eps, columns, {f"certified_accuracy@{eps:g}": share}, more)
        self.records[-1]["component"]["probabilistic"] = False
        return self

    def _add(
        self,
        kind: str,
        defense: str,
        seed: int,
        component: tuple[str, str] | None,
        eps: float,
        columns: dict[str, np.ndarray],
        metrics: dict[str, Any],
        more: dict[str, Any],
    ) -> Bench:
        key = f"{len(self.records)}"
        record = {
            "key": key,
            "kind": kind,
            "subject": {"label": defense, "role": "defense", "seed": seed, "model": "cnn", "training_seconds": 12.5},
            "component": None
            if component is None
            else {"label": component[0], "goal": component[1], "distribution": "d", "version": "1"},
            "dataset": {"name": "tiny", "fingerprint": "x", "n": N},
            "threat": {"norm": "linf", "eps": eps},
            "status": "ok",
            "error": None,
            "precision": "fp32",
            "seconds": 2.0,
            "cascade": False,
            "restored": [],
            "metrics": metrics,
            **more,
        }
        if record["status"] == "error":
            record |= {"metrics": {}, "seconds": None}
        else:
            self.columns[key] = columns
        self.records.append(record)
        return self

    def table(self) -> pd.DataFrame:
        return comparison(self.records, self.columns.__getitem__)
