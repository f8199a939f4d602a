from __future__ import annotations

import sys

import pytest

from robustkit.executors.choose import executor_of
from robustkit.executors.local import LocalExecutor
from robustkit.params import UsageError


def test_one_local_worker_is_this_process() -> None:
    assert executor_of("local", None, False) is None
    assert executor_of("local", 1, False) is None


def test_several_local_workers_are_processes() -> None:
    executor = executor_of("local", 3, False)
    assert isinstance(executor, LocalExecutor)
    assert executor.size == 3


@pytest.mark.parametrize("text", ["slurm", "local:2", "ray:", ""])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"executor={text!r} is not local, ray or ray:ADDRESS"):
        executor_of(text, 2, False)


def test_fewer_than_one_worker_is_refused() -> None:
    with pytest.raises(UsageError, match="workers=0 must be at least 1"):
        executor_of("local", 0, False)


def test_without_ray_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python does where a module cannot be imported
    with pytest.raises(UsageError, match=r'pip install "robustkit\[ray\]"'):
        executor_of("ray", 2, False)
