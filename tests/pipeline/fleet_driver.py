"""Run by the tests of executors as a process of its own: a bench on two workers. EXECUTOR TINY DIRECTORY ATTACK ...

EXECUTOR "exit" is this very process with a handler of SIGTERM that calls sys.exit, "after-ray" one in which Ray ran.
FLEET_MORE holds further settings, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from robustkit.executors.local import LocalExecutor
from robustkit.executors.pool import Executor
from robustkit.executors.ray import RayExecutor
from tests.pipeline.fleet import bench

if __name__ == "__main__":
    kind, tiny, directory, *attacks = sys.argv[1:]
    name, _, address = kind.partition(":")
    if name == "after-ray":
        import ray

        RayExecutor("", 1).shutdown()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "an executor leaves the signals as they were"
        ray.init("local", num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
        ray.shutdown()
        assert callable(signal.getsignal(signal.SIGTERM)), "Ray itself does not"
    elif name == "exit":
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    executors: dict[str, Callable[[], Executor | None]] = {
        "local": lambda: LocalExecutor(2),
        "ray": lambda: RayExecutor(address, 2),
    }
    executor = executors.get(name, lambda: None)()
    more = json.loads(os.environ.get("FLEET_MORE", "{}"))
    bench(tiny, Path(directory), executor, tuple(attacks), **more)
