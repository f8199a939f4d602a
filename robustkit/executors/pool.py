"""Long-lived workers behind an interface shaped like `concurrent.futures`: submit, futures, shutdown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

Fetch = Callable[[str], bytes]
"""In a worker: the content that the driver shared under a name."""
Handler = Callable[[bytes], bytes]
"""What a worker makes once, of a `Fetch`, and keeps between messages. It answers; where it raises, the worker ends."""

STARTS = 3
"""How often in a row a worker is started that doesn't come up."""


class WorkerLost(Exception):
    """A worker ended before it answered: killed, out of memory, its machine gone."""


class Executor(Protocol):
    """Workers that each hold one handler. A message goes to whichever is free first, in the order of submission."""

    @property
    def size(self) -> int:
        """Workers, whether they are up or not."""
        ...

    @property
    def dashboard(self) -> str | None:
        """Where the workers can be watched, a URL."""
        ...

    def begin(self, handler: str, shared: Mapping[str, Path], threads: int, gpu: bool) -> None:
        """Make workers, before the first message.

        Args:
            handler: "package.module:name" of what makes a `Handler` of a `Fetch`, imported in every worker.
            shared: files that workers can fetch by name.
            threads: of each worker.
            gpu: each worker gets one.
        """
        ...

    def submit(self, message: bytes) -> Future[bytes]:
        """The handler's answer to come; its exception is `WorkerLost` where the worker ended."""
        ...

    def shutdown(self) -> None:
        """End all workers at once; what they are at is lost, and futures that nobody works on are cancelled."""
        ...


class Link(Protocol):
    """The driver's end of one worker."""

    def call(self, message: bytes) -> bytes:
        """Wait for the answer; WorkerLost where none will come."""
        ...

    def end(self) -> None:
        """Kill the worker, whatever it is at; a call that waits for it ends with WorkerLost."""
        ...


class Pool:
    """Links at work, each served by one thread, which replaces its worker when that is lost.

    Args:
        size: links.
        start: makes the link of a place, 0 to size - 1, and returns when its worker is ready; WorkerLost where it
            does not come up. The second argument tells that the pool is closing, so that nobody waits any longer.
    """

    def __init__(self, size: int, start: Callable[[int, Callable[[], bool]], Link]) -> None:
        self.size = size
        self._start = start
        self._queue: SimpleQueue[tuple[Future[bytes], bytes] | None] = SimpleQueue()
        self._links: dict[int, Link] = {}
        self._lock = threading.Lock()
        self._closing = False
        self._hopeless: WorkerLost | None = None
        self._threads = [threading.Thread(target=self._serve, args=(place,), daemon=True) for place in range(size)]
        self._serving = size
        for thread in self._threads:
            thread.start()

    def submit(self, message: bytes) -> Future[bytes]:
        future: Future[bytes] = Future()
        with self._lock:
            if self._hopeless is not None:
                future.set_exception(self._hopeless)
            else:
                self._queue.put((future, message))
        return future

    def shutdown(self) -> None:
        with self._lock:
            self._closing = True
            links = list(self._links.values())
        self._drain(None)
        for link in links:
            link.end()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=10)

    def _serve(self, place: int) -> None:
        failed = 0
        while not self._closing:
            try:
                link = self._start(place, lambda: self._closing)
            except WorkerLost as lost:
                failed += 1
                if failed >= STARTS:
                    self._give_up(lost)
                    return
                continue
            failed = 0
            with self._lock:
                self._links[place] = link
            try:
                while not self._closing and self._answered(link):
                    pass
            finally:
                link.end()

    def _answered(self, link: Link) -> bool:
        """Whether the link's worker is still there after the next message."""
        item = self._queue.get()
        if item is None:
            return False
        future, message = item
        if not future.set_running_or_notify_cancel():
            return True
        try:
            future.set_result(link.call(message))
        except WorkerLost as lost:
            future.set_exception(lost)
            return False
        except BaseException as error:  # a mistake in a link must not leave its future waiting
            future.set_exception(error)
            return False
        return True

    def _give_up(self, lost: WorkerLost) -> None:
        """One place has no worker; where it was the last one, whoever waits is told."""
        with self._lock:
            self._serving -= 1
            if self._serving or self._closing:
                return
            self._hopeless = WorkerLost(f"no worker starts: {lost}")
        self._drain(self._hopeless)

    def _drain(self, error: Exception | None) -> None:
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            if item is None or not item[0].set_running_or_notify_cancel():
                continue
            item[0].set_exception(error or WorkerLost("the run has ended"))


def handler_of(text: str, fetch: Fetch) -> Handler:
    """In a worker: import what "package.module:name" names, and make the handler."""
    import importlib

    module, _, name = text.partition(":")
    made: Handler = getattr(importlib.import_module(module), name)(fetch)
    return made
