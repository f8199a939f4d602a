"""The pool on real worker processes that need no torch: their handlers are small functions of this folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from robustkit.executors.local import LocalExecutor
from robustkit.executors.pool import WorkerLost


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes an executor whose workers run a handler of the module below."""
    (tmp_path / "pool_handlers.py").write_text(
        "import os, signal, time\n"
        "def obeys(fetch):\n"
        "    def handler(message):\n"
        "        word = message.decode()\n"
        "        print('noise on stdout')\n"
        "        if word == 'die':\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        if word == 'fail':\n"
        "            raise ValueError('a mistake in the handler')\n"
        "        if word == 'sleep':\n"
        "            time.sleep(600)\n"
        "        if word == 'big':\n"
        "            return bytes(5_000_000)\n"
        "        if word == 'shared':\n"
        "            return fetch('note')\n"
        "        return f\"{os.getpid()} {os.environ['OMP_NUM_THREADS']}\".encode()\n"
        "    return handler\n"
        "def unborn(fetch):\n"
        "    raise RuntimeError('no such licence')\n"
    )
    (tmp_path / "note.txt").write_text("to all workers")
    monkeypatch.syspath_prepend(str(tmp_path))
    executors = []

    def made(workers: int, handler: str = "obeys") -> LocalExecutor:
        executor = LocalExecutor(workers)
        executor.begin(f"pool_handlers:{handler}", {"note": tmp_path / "note.txt"}, 3, False)
        executors.append(executor)
        return executor

    yield made
    for executor in executors:
        executor.shutdown()


def test_answers_come_back_and_workers_stay(begun) -> None:  # type: ignore[no-untyped-def]
    executor = begun(1)
    answers = [executor.submit(b"who").result(60) for _ in range(3)]
    assert len(set(answers)) == 1
    process, threads = answers[0].split()
    assert int(process) != os.getpid()
    assert threads == b"3"
    assert executor.submit(b"big").result(60) == bytes(5_000_000)
    assert executor.submit(b"shared").result(60) == b"to all workers"


def test_a_lost_worker_is_told_and_replaced(begun) -> None:  # type: ignore[no-untyped-def]
    executor = begun(1)
    first = executor.submit(b"who").result(60)
    with pytest.raises(WorkerLost, match="SIGKILL"):
        executor.submit(b"die").result(60)
    second = executor.submit(b"who").result(60)
    assert second != first
    with pytest.raises(WorkerLost, match="exit code 1; its last words: ValueError: a mistake in the handler"):
        executor.submit(b"fail").result(60)
    assert executor.submit(b"who").result(60) not in (first, second)


def test_workers_that_never_start_end_the_waiting(begun) -> None:  # type: ignore[no-untyped-def]
    executor = begun(2, "unborn")
    waiting = [executor.submit(b"who") for _ in range(3)]
    for future in waiting:
        with pytest.raises(WorkerLost, match=r"no worker starts.*no such licence"):
            future.result(60)
    with pytest.raises(WorkerLost, match="no worker starts"):
        executor.submit(b"who").result(60)


def test_shutdown_ends_workers_whatever_they_are_at(begun) -> None:  # type: ignore[no-untyped-def]
    executor = begun(1)
    process = int(executor.submit(b"who").result(60).split()[0])
    busy, queued = executor.submit(b"sleep"), executor.submit(b"who")
    time.sleep(0.2)
    began = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - began < 10
    for future in (busy, queued):
        with pytest.raises(WorkerLost):
            future.result(5)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
