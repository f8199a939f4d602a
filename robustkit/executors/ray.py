"""Workers on a Ray cluster: one actor each, wherever the cluster has room."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from robustkit.executors.pool import Link, Pool, WorkerLost, handler_of
from robustkit.params import UsageError

_PATIENCE = 300.0
"""Seconds that an actor may wait for room before that counts as a start that failed."""
_GLANCE = 1.0


class RayExecutor:
    """Actors of a cluster that runs already, or of one that is started for this run, on this machine alone.

    A cluster that is started here listens on the loopback address only. Whoever reaches the ports of a Ray cluster can
    run code on it: one of several machines belongs behind a firewall.

    Args:
        address: "HOST:PORT" of the head, "auto" for the one that runs on this machine; empty starts one.
        workers: actors; 0 is as many as the cluster has GPUs or, without GPUs, cores.
        gpu: each takes a GPU.

    Raises:
        UsageError: Ray is not installed, or no cluster answers at this address.
    """

    def __init__(self, address: str, workers: int, gpu: bool = False) -> None:
        self._ray = _imported(loopback=not address or address.startswith(("127.", "localhost")))
        self._mine = not self._ray.is_initialized()
        self._handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place, for good
        context = None
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._mine and not address:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            room = {"num_cpus": max(workers, cores)}
            context = self._ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", **room, **quiet)
        elif self._mine:
            try:
                context = self._ray.init(address, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UsageError(f"no Ray cluster answers at {address!r}: {error}") from error
        self.dashboard = f"http://{context.dashboard_url}" if context is not None and context.dashboard_url else None
        resources = self._ray.cluster_resources()
        self.size = workers or max(1, int(resources.get("GPU" if gpu else "CPU", 1)))
        self._pool: Pool | None = None

    def begin(self, handler: str, shared: Mapping[str, Path], threads: int, gpu: bool) -> None:
        # in the object store once; inside a list a reference stays one, until a worker fetches what it needs
        stored = {name: [self._ray.put(path.read_bytes())] for name, path in shared.items()}
        kind = self._ray.remote(_Actor).options(
            num_cpus=threads, num_gpus=1 if gpu else 0, max_restarts=0, scheduling_strategy="SPREAD"
        )

        def start(place: int, closing: Callable[[], bool]) -> Link:
            link = _Remote(self._ray, kind.remote(handler, stored))
            link.wait(closing)
            return link

        self._pool = Pool(self.size, start)

    def submit(self, message: bytes) -> Future[bytes]:
        assert self._pool is not None
        return self._pool.submit(message)

    def shutdown(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        if self._mine and self._ray.is_initialized():
            self._ray.shutdown()
            # Ray sets it in the main thread alone, where alone it can be set; None is one that Python cannot set again
            if threading.current_thread() is threading.main_thread() and self._handler is not None:
                signal.signal(signal.SIGTERM, self._handler)
        self._mine = False


class _Remote:
    """The driver's end of one actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def wait(self, closing: Callable[[], bool]) -> None:
        """Until the actor has room and its handler is made."""
        ready = self._actor.ready.remote()
        began = time.monotonic()
        while not self._ray.wait([ready], timeout=_GLANCE)[0]:
            if closing() or time.monotonic() - began > _PATIENCE:
                self.end()
                raise WorkerLost(f"the cluster has had no room for a worker for {_PATIENCE:.0f} s")
        try:
            self._result(lambda: ready)
        except WorkerLost:
            self.end()
            raise

    def call(self, message: bytes) -> bytes:
        return self._result(lambda: self._actor.call.remote(message))

    def end(self) -> None:
        if self._ray.is_initialized():
            self._ray.kill(self._actor)

    def _result(self, asked: Callable[[], Any]) -> bytes:
        try:
            found: bytes = self._ray.get(asked())
        except self._ray.exceptions.RayError as error:  # its process or its node is gone, or the handler raised
            raise WorkerLost(_words(error)) from error
        return found


class _Actor:
    """What runs on the cluster."""

    def __init__(self, handler: str, shared: dict[str, list[Any]]) -> None:
        ray = importlib.import_module("ray")
        self._handler = handler_of(handler, lambda name: ray.get(shared[name][0]))

    def ready(self) -> bytes:
        return b"ready"

    def call(self, message: bytes) -> bytes:
        return self._handler(message)


def _imported(loopback: bool) -> Any:
    if loopback:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's word for: 127.0.0.1 and nothing else
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(
            f'--executor ray needs Ray ({error}); install it with: pip install "robustkit[ray]"'
        ) from error


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no reason given'}"
