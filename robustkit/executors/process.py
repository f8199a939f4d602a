"""`python -m robustkit.executors.process`: the other end of `robustkit.executors.local`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from robustkit.executors.local import receive, send
from robustkit.executors.pool import handler_of


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a keyboard interrupt is the driver's to act on
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the frames
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()
    task = json.loads(messages.get())
    handler = handler_of(task["handler"], lambda name: Path(task["shared"][name]).read_bytes())
    send(answers, b"ready")
    while True:
        send(answers, handler(messages.get()))


def _listen(pipe: IO[bytes], messages: SimpleQueue[bytes]) -> None:
    """Pass frames on; a driver that is gone ends this process, whatever it is at."""
    try:
        while True:
            messages.put(receive(pipe))
    except (OSError, EOFError):
        os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # the orderly way out would stumble over the thread that listens
