"""`robustkit train` in two processes under torchrun: one of them trains, writes and speaks for both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_two_processes_train_one_model_and_the_next_call_finds_it(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "robustkit", "train", "--defense", "fgsm_at", "--model", "linear", "--epochs", "1"),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
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
