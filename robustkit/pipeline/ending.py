"""A signal that asks this process to exit ends the run, not the cell or the training in which it arrives."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Asked(BaseException):
    """What is raised in place of SystemExit."""

    def __init__(self, wanted: SystemExit) -> None:
        super().__init__()
        self.wanted = wanted


@contextmanager
def terminable() -> Iterator[None]:
    """Within the block, SIGTERM ends the block; also a decorator.

    Where nobody handles the signal it ends the process at once. But handlers that call sys.exit, as Ray installs one
    and as programs in containers often do, raise SystemExit in the midst of whatever is at work; and what an attack, a
    defense or a detector raises is an error of its own, with which the run goes on. Here it is made an exception
    that nobody takes for his own, and SystemExit again outside. Signals reach the main thread alone.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            before(number, frame)
        except SystemExit as wanted:
            raise _Asked(wanted) from None

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except _Asked as asked:
        raise asked.wanted from None
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, before)
