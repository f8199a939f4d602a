"""From what a user writes to an executor."""

from __future__ import annotations

from robustkit.executors.pool import Executor
from robustkit.params import UsageError


def executor_of(text: str, workers: int | None, gpu: bool) -> Executor | None:
    """The executor that "local", "ray" or "ray:ADDRESS" names.

    Args:
        text: where the work is done.
        workers: how many; None is one for "local", and one a GPU or core of the cluster for "ray".
        gpu: each worker takes a GPU.

    Returns:
        None where this very process is to do the work: "local" with one worker.

    Raises:
        UsageError: another text, a number below 1, Ray not installed, no cluster at the address.
    """
    name, colon, address = text.partition(":")
    if name not in ("local", "ray") or (name == "local" and colon) or (colon and not address):
        raise UsageError(f"executor={text!r} is not local, ray or ray:ADDRESS, e.g. ray:10.0.0.1:6379 or ray:auto")
    if workers is not None and workers < 1:
        raise UsageError(f"workers={workers} must be at least 1")
    if name == "ray":
        from robustkit.executors.ray import RayExecutor

        return RayExecutor(address, workers or 0, gpu)
    if workers is None or workers == 1:
        return None
    from robustkit.executors.local import LocalExecutor

    return LocalExecutor(workers)
