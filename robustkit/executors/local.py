"""Worker processes of this machine, each with a share of its cores or a GPU of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import IO

from robustkit.executors.pool import Link, Pool, WorkerLost

_HEAD = struct.Struct(">Q")
_TAIL = 2000


class LocalExecutor:
    """N processes.

    They are interpreters of their own rather than forks or children of `multiprocessing`: a fork breaks threads and
    CUDA, and a child of `multiprocessing` would run the user's script again.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self.size = workers
        self.dashboard: str | None = None
        self._pool: Pool | None = None

    def begin(self, handler: str, shared: Mapping[str, Path], threads: int, gpu: bool) -> None:
        paths = {name: str(path.absolute()) for name, path in shared.items()}
        task = json.dumps({"handler": handler, "shared": paths}).encode()

        def start(place: int, closing: Callable[[], bool]) -> Link:
            return _Process(task, _environment(place, threads, gpu))

        self._pool = Pool(self.size, start)

    def submit(self, message: bytes) -> Future[bytes]:
        assert self._pool is not None
        return self._pool.submit(message)

    def shutdown(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class _Process:
    """One worker; frames go through its standard input and output, what it says goes into a file."""

    def __init__(self, task: bytes, environment: dict[str, str]) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "robustkit.executors.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
        )
        try:
            self.call(task)  # the answer says that the handler is made
        except BaseException:
            self.end()
            raise

    def call(self, message: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            send(self._process.stdin, message)
            return receive(self._process.stdout)
        except (OSError, EOFError, ValueError) as error:  # ValueError: a pipe that `end` has closed
            raise WorkerLost(self._last_words()) from error

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _last_words(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            guess = ", as happens where memory runs out" if name == "SIGKILL" else ""
            words = f"worker process {self._process.pid} was ended by {name}{guess}"
        else:
            words = f"worker process {self._process.pid} ended with exit code {code}"
        if self._said.closed:
            return words
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL))
        last = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{words}; its last words: {last[-1]}" if last else words


def _environment(place: int, threads: int, gpu: bool) -> dict[str, str]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if gpu:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(number) for number in range(_gpus())]
        environment["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]
    return environment


def _gpus() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def send(pipe: IO[bytes], message: bytes) -> None:
    """One frame: its length in 8 bytes, then the message."""
    pipe.write(_HEAD.pack(len(message)))
    pipe.write(message)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """The next frame.

    Raises:
        EOFError: the other end is gone.
    """
    (length,) = _HEAD.unpack(_exactly(pipe, _HEAD.size))
    return _exactly(pipe, length)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError
    return content
