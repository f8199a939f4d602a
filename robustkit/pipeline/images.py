"""Adversarial images of one attack on one model: what `robustkit attack` writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from robustkit.engine.evaluate import Arena
from robustkit.executors.pool import Executor
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.pipeline.cells import Cell
from robustkit.pipeline.distribute import Base, distribute
from robustkit.pipeline.events import Listener
from robustkit.pipeline.image_blocks import Images, adversarial_block
from robustkit.pipeline.plan import Plan
from robustkit.pipeline.store import ModelCache
from robustkit.pipeline.surrogates import Surrogates
from robustkit.pipeline.tasks import ImagesTask
from robustkit.pipeline.told import build_told
from robustkit.precision import choose_precision


def adversarial_images(plan: Plan, host: Host, listen: Listener, executor: Executor | None = None) -> Images:
    """Attack the last cell of a plan, all its images.

    Args:
        plan: whose last cell is of an attack.
        host: where its components were looked up.
        listen: told about progress.
        executor: whose workers attack; None: this process. It ends with the call.

    Returns:
        Arrays of all samples, by names as in `robustkit.pipeline.image_blocks.adversarial_block`.

    Raises:
        UsageError: an error of the attack in a worker; here it is raised as it is.
    """
    cell = plan.cells[-1]
    try:
        with tempfile.TemporaryDirectory(prefix="robustkit-") as folder:
            blocks = _blocks(cell, plan, host, listen, executor, Path(folder))
    finally:
        if executor is not None:
            executor.shutdown()
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _blocks(
    cell: Cell, plan: Plan, host: Host, listen: Listener, executor: Executor | None, folder: Path
) -> list[Images]:
    surrogates = Surrogates(plan, host, ModelCache(), folder, listen)
    built = build_told(cell.subject, plan, host, ModelCache(), folder, listen)
    example = plan.data.test.batch(torch.arange(min(64, plan.count)))[0].to(plan.device)
    precision = choose_precision(built.model, example, plan.spec.precision)
    ready = surrogates.ready(cell)
    if executor is None:
        arena = Arena(built.model, precision, plan.spec.batch_size, example, eot=plan.spec.eot)
        return [adversarial_block(ready, number, arena, plan) for number in range(plan.blocks)]
    base = Base(plan=plan, built=[built], directory=folder, precision=precision, host=host)
    (task,) = distribute([ImagesTask(cell, plan, listen)], [base], executor, listen)
    if task.failure is not None:
        raise UsageError(f"{cell.subject.label} / {cell.label}: {task.failure[0]}")
    return [task.images[number] for number in range(plan.blocks)]
