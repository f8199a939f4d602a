"""One function in several processes of a Ray cluster at once, joined by torch.distributed: what Ray Train is for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustkit.executors.ray import RayExecutor
from robustkit.params import UsageError

_FAILURES = 3
"""So often a group that lost a process begins again; a training goes on from its last epoch."""


def together(executor: RayExecutor, entry: str, given: Mapping[str, Any], folder: Path, gpu: bool) -> None:
    """Call a function in as many processes as the executor has workers, and wait until all are done.

    Args:
        executor: knows the cluster; it is not begun.
        entry: "package.module:function".
        given: its keyword arguments, plain values.
        folder: which all machines see; Ray keeps its notes there, and it is ROBUSTKIT_CACHE of every process.
        gpu: each process takes one.

    Raises:
        UsageError: Ray Train is not installed, or the function failed.
    """
    try:
        train = importlib.import_module("ray.train")
        trainers = importlib.import_module("ray.train.torch")
    except ImportError as error:
        raise UsageError(
            f'training on Ray needs Ray Train ({error}); install it with: pip install "ray[train]"'
        ) from error
    task = {"entry": entry, "given": dict(given), "cwd": str(Path.cwd()), "cache": str(folder.absolute())}
    trainer = trainers.TorchTrainer(
        _work,
        train_loop_config=task,
        scaling_config=train.ScalingConfig(num_workers=executor.size, use_gpu=gpu),
        run_config=train.RunConfig(
            storage_path=str(folder.absolute() / "ray"), failure_config=train.FailureConfig(max_failures=_FAILURES)
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray's own kinds, with the worker's as their cause
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"training on Ray failed: {lines[-1] if lines else type(error).__name__}") from error


def _work(task: dict[str, Any]) -> None:
    """In a process of the group, which Ray has joined to the others."""
    if Path(task["cwd"]).is_dir():
        os.chdir(task["cwd"])
    os.environ["ROBUSTKIT_CACHE"] = task["cache"]
    module, _, name = task["entry"].partition(":")
    getattr(importlib.import_module(module), name)(**task["given"])
