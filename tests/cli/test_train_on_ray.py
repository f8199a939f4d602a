"""`robustkit train` through Ray Train: two processes of a real cluster train what torchrun's and one alone train."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("ray")

TRAIN = ("-m", "robustkit", "train", "--defense", "fgsm_at", "--model", "linear", "--epochs", "1")
QUIET = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "RAY_worker_niceness": "0"}


def trained(folder: Path, *more: str) -> tuple[Path, str]:
    """The weights, and what was said on stderr."""
    done = subprocess.run(
        [sys.executable, *TRAIN, "-o", str(folder / "out"), *more],
        capture_output=True,
        text=True,
        env={**os.environ, **QUIET, "ROBUSTKIT_CACHE": str(folder / "cache")},
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.split()[-1]), done.stderr


@pytest.mark.slow
def test_two_processes_of_a_cluster_train_what_one_trains(tmp_path: Path) -> None:
    together, said = trained(tmp_path / "ray", "--executor", "ray", "--workers", "2")
    assert "from the cache" in said  # where the cluster has put it
    single, _ = trained(tmp_path / "alone")
    found, expected = load_file(together), load_file(single)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0.05, atol=0.02)


def test_workers_without_a_cluster_are_refused(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from robustkit.cli.app import app

    words = ["train", "--defense", "fgsm_at", "--model", "linear", "--workers", "2", "-o", str(tmp_path)]
    found = CliRunner().invoke(app, words)
    assert found.exit_code != 0
    assert "torchrun" in str(found.exception) + found.output
