"""What stands for the lock of a run directory behind a URL: an object that its driver keeps alive."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from robustkit.data.remote import Place, told
from robustkit.params import UsageError

NAME = ".lock"
BEAT = 10.0
"""Seconds after which a driver writes its lock again."""
PATIENCE = 3.5
"""Beats without which a driver is given up for dead."""


class Lease:
    """The object URL/.lock: who is at work there, written again every few seconds.

    It is made with "create", which fails where it is there already (atomic in S3 and Google Cloud Storage). Who finds
    one watches it: where it changes its driver is alive, and the newcomer is refused; where it doesn't, that driver is
    dead, and the newcomer takes its place. No clock of another machine is asked. A driver that was asleep and finds
    another's lock in place of its own stops at its next write.

    Args:
        place: the run directory.
        beat: seconds.
    """

    def __init__(self, place: Place, beat: float | None = None) -> None:
        self._fs, self._path, self._url = place.fs, f"{place.path.rstrip('/')}/{NAME}", place.text
        self._beat = BEAT if beat is None else beat
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._me = {"host": platform.node(), "pid": os.getpid(), "since": since, "token": uuid.uuid4().hex}
        self._beats = 0
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def take(self) -> None:
        """Make the lock, or take that of a dead driver.

        Raises:
            UsageError: another process is at work, or nothing can be written there.
        """
        if not self._created():
            self._watch()
            if not self._created():
                raise UsageError(f"another process has just begun to work in {self._url}; wait for it, or use -o")
        if self._token(self._read()) != self._me["token"]:
            raise UsageError(f"another process has just begun to work in {self._url}; wait for it, or use -o")
        self._thread.start()

    def check(self) -> None:
        """Whether this process still holds the lock.

        Raises:
            UsageError: it was taken, or removed.
        """
        if self._lost:
            raise UsageError(self._lost)

    def release(self) -> None:
        """Let others in."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._lost and self._token(self._read()) == self._me["token"]:
            self._remove()

    def _content(self) -> bytes:
        return json.dumps({**self._me, "beat": self._beats}).encode()

    def _created(self) -> bool:
        with told(f"{self._url} (its lock)", "written"):
            try:
                write_object(self._fs, self._path, self._content(), mode="create")
            except FileExistsError:
                return False
        return True

    def _read(self) -> bytes | None:
        with told(f"{self._url} (its lock)"):
            try:
                self._fs.invalidate_cache()
                content: bytes = self._fs.cat_file(self._path)
            except FileNotFoundError:
                return None
        return content

    def _token(self, content: bytes | None) -> str | None:
        return _parsed(content).get("token")

    def _remove(self) -> None:
        with told(f"{self._url} (its lock)", "removed"):
            try:
                self._fs.rm_file(self._path)
            except FileNotFoundError:
                return

    def _watch(self) -> None:
        """Return when the lock is gone, or was removed because its driver is dead."""
        seen = self._read()
        until = time.monotonic() + PATIENCE * self._beat
        while seen is not None and not _dead_here(_parsed(seen)) and time.monotonic() < until:
            time.sleep(self._beat / 10)
            found = self._read()
            if found is not None and found != seen:
                about = _parsed(found)
                who = f"process {about.get('pid')} of {about.get('host')}, since {about.get('since')}"
                raise UsageError(f"another process is at work in {self._url} ({who}); wait for it, or use -o")
            seen = found
        if seen is not None:
            self._remove()

    def _keep(self) -> None:
        while not self._ended.wait(self._beat):
            try:
                found = self._read()
                if self._token(found) != self._me["token"]:
                    about = _parsed(found)
                    self._lost = f"{self._url} is no longer this process's: its lock " + (
                        f"was taken by process {about.get('pid')} of {about.get('host')}"
                        if found is not None
                        else "was removed"
                    )
                    return
                self._beats += 1
                write_object(self._fs, self._path, self._content())
            except Exception:  # no connection: the next beat may have one, and what is written says so by itself
                continue


def write_object(fs: Any, path: str, content: bytes, **how: str) -> None:
    """Write a whole object; folders are made where the file system has such."""
    try:
        fs.pipe_file(path, content, **how)
    except FileNotFoundError:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, content, **how)


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _dead_here(about: dict[str, Any]) -> bool:
    """Whether a lock is of a process of this very machine that is no longer there."""
    if about.get("host") != platform.node() or os.name != "posix" or not isinstance(about.get("pid"), int):
        return False
    try:
        os.kill(about["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
