"""Run by the tests of test_kill.py: children that are killed, without a new interpreter for each of them."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

torch.set_num_threads(1)  # a fork keeps no threads but its own

import torch.fx.experimental.optimization
import torch.utils.checkpoint
import torch.utils.tensorboard  # once, not in every child
from torch import Tensor, nn

from robustkit.api import bench
from robustkit.contracts import Data, Threat, Training
from robustkit.hookspecs import AttackEntry, DefenseEntry, hookimpl
from robustkit.host import Host
from robustkit.training.loop import train
from robustkit.training.method import OnExamples


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Random noise, and time enough to be killed in."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        with Path(os.environ["TRAININGS"]).with_name("attacks").open("a") as file:
            file.write(f"{os.environ['ROUND']}\n")
        time.sleep(0.02)
        return (x + threat.eps * torch.rand_like(x).sub(0.5).mul(2)).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Still:
    """A step without a draw of chance, and time enough to be killed in."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        with Path(os.environ["TRAININGS"]).with_name("attacks").open("a") as file:
            file.write(f"{os.environ['ROUND']}\n")
        time.sleep(0.02)
        return (x + threat.eps).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class SlowTraining:
    """Ordinary training that leaves a line in a file whenever it begins."""

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        with Path(os.environ["TRAININGS"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
        return train(model, data, training, OnExamples(), "slow")


def _host() -> Host:
    module = types.ModuleType("slow_plugin")

    @hookimpl
    def robustkit_attacks() -> Iterator[AttackEntry]:
        for name in ("slow", "still"):
            yield AttackEntry(
                name=name,
                target=f"__main__:{name.capitalize()}",
                summary="test",
                norms=frozenset({"linf"}),
                knowledge="decision",
            )

    @hookimpl
    def robustkit_defenses() -> Iterator[DefenseEntry]:
        yield DefenseEntry(name="slow", target="__main__:SlowTraining", summary="test")

    module.robustkit_attacks = robustkit_attacks  # type: ignore[attr-defined]
    module.robustkit_defenses = robustkit_defenses  # type: ignore[attr-defined]
    return Host(plugins={"tiny": module}, discover=False)


def _start(data: str, directory: Path, budget: float | None) -> int:
    """A child that runs the whole bench in `directory`; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        result = bench(
            ["tiny.slow"],
            ["tiny.slow", "fgsm", "pgd:steps=3"] if budget is None else ["tiny.still", "fgsm", "bim:steps=3"],
            directory=directory,
            host=_host(),
            dataset=data,
            model="linear",
            eps=[0.1],
            recipe={"epochs": 3},
            precision="fp32",
            budget=budget,
        )
        status = 0 if result.ok else 2
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killing(data: str, folder: Path, rounds: int, budget: float | None = None) -> None:
    """Kill a run at random moments until it is done; every round must find the directory readable."""
    os.environ |= {"ROBUSTKIT_CACHE": str(folder / "calm"), "ROUND": "whole"}
    began = time.monotonic()
    assert _wait(_start(data, folder / "whole", budget)) == 0
    lasted = time.monotonic() - began
    os.environ |= {"ROBUSTKIT_CACHE": str(folder / "cache"), "ROUND": "torn"}
    chance = random.Random(rounds)
    kills = 0
    for _ in range(rounds):
        child = _start(data, folder / "torn", budget)
        time.sleep(chance.uniform(0.0, min(lasted / 2, 1.5)))
        os.kill(child, signal.SIGKILL)
        kills += _wait(child) == -signal.SIGKILL
    print("kills", kills)
    assert _wait(_start(data, folder / "torn", budget)) == 0


def together(data: str, folder: Path) -> None:
    """Two runs on one cache at once, both of the same model."""
    os.environ |= {"ROBUSTKIT_CACHE": str(folder / "cache"), "ROUND": "together"}
    children = [_start(data, folder / name, None) for name in ("one", "two")]
    assert [_wait(child) for child in children] == [0, 0]


if __name__ == "__main__":
    if sys.argv[1] in ("kill", "spend"):
        killing(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), 600.0 if sys.argv[1] == "spend" else None)
    else:
        together(sys.argv[2], Path(sys.argv[3]))
