"""`robustkit train` in two processes under torchrun: one of them trains, writes and speaks for both."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TRAIN = ("-m", "robustkit", "train", "--defense", "fgsm_at", "--model", "linear", "--epochs", "1")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def agents(folder: Path, caches: tuple[str, str]) -> list[tuple[int, str, str]]:
    """Two calls of torchrun that find each other, one process each; their exit codes, stdout and stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    for number, cache in enumerate(caches):
        words = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "--rdzv-id", "test", "--local-addr", "127.0.0.1"),
            *(*TRAIN, "-o", str(folder / f"agent {number}")),
        ]
        environment = {**os.environ, **ENVIRONMENT, "ROBUSTKIT_CACHE": str(folder / cache)}
        started.append(
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
    said = [agent.communicate(timeout=600) for agent in started]
    return [(agent.returncode, *words) for agent, words in zip(started, said, strict=True)]


@pytest.mark.slow
def test_two_agents_as_on_two_machines_train_what_one_process_trains(tmp_path: Path) -> None:
    found = agents(tmp_path, ("cache", "cache"))
    assert [code for code, _, _ in found] == [0, 0], found
    written = [Path(line) for _, out, _ in found for line in out.splitlines()]
    assert len(written) == 1  # one process speaks for both
    assert sum(error.count("trained in") for _, _, error in found) == 1
    environment = {**os.environ, **ENVIRONMENT, "ROBUSTKIT_CACHE": str(tmp_path / "alone")}
    alone = subprocess.run(
        [sys.executable, *TRAIN, "-o", str(tmp_path / "alone")], capture_output=True, text=True, env=environment
    )
    assert alone.returncode == 0, alone.stderr[-3000:]
    together, single = (load_file(path) for path in (written[0], Path(alone.stdout.strip())))
    assert together.keys() == single.keys()
    for name in single:
        torch.testing.assert_close(together[name], single[name], rtol=0.05, atol=0.02)


@pytest.mark.slow
def test_machines_that_share_no_cache_are_told(tmp_path: Path) -> None:
    found = agents(tmp_path, ("one", "other"))
    assert any(code != 0 for code, _, _ in found)
    assert any("put ROBUSTKIT_CACHE on a file system that all machines share" in error for _, _, error in found)


@pytest.mark.slow
def test_two_processes_train_one_model_and_the_next_call_finds_it(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *TRAIN,
    ]
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "ROBUSTKIT_CACHE": str(tmp_path / "cache"),
    }
    for number, origin in enumerate(("trained in", "from the cache")):
        folder = tmp_path / str(number)
        done = subprocess.run(
            [*command, "-o", str(folder)], capture_output=True, text=True, env=environment, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.split() == [str(folder / "models" / "fgsm_at-seed0.safetensors")]
        assert done.stderr.count(origin) == 1
        assert (folder / "models" / "fgsm_at-seed0.safetensors").is_file()
        assert len((folder / "training.csv").read_text().splitlines()) == 2
