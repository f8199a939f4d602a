"""Workers: efficiency, the driver's memory, a million blocks, and a simulation for up to 1,000 workers.

    python benchmarks/scale.py efficiency memory million dispatch simulation [-o benchmarks/results/scale.md]

Each part that is named is measured, the others are kept from scale.json beside the result. `efficiency` wants two quiet
cores and takes minutes; `dispatch` and `simulation` take their service times from it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from machine import stated

from robustkit.executors.choose import executor_of
from robustkit.executors.pool import Executor
from robustkit.files import write_atomically
from robustkit.host import default_host
from robustkit.pipeline.block import measure_block
from robustkit.pipeline.events import BlockDone
from robustkit.pipeline.known import content_of, good_records, keep_block, open_blocks
from robustkit.pipeline.message import packed, unpacked
from robustkit.pipeline.parquet import encoded
from robustkit.pipeline.plan import Plan, make_plan
from robustkit.pipeline.records import record_of
from robustkit.pipeline.run import run
from robustkit.pipeline.schedule import Group, Lane, Schedule
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache, RunStore

HERE = Path(__file__).parent
RESULT = HERE / "results" / "scale.md"
NOTES = HERE / "scale_notes.md"
WORK: dict[str, dict[str, Any]] = {
    "attacks": {"attacks": tuple(f"pgd:steps={steps}" for steps in range(38, 43))},
    "smoothing": {
        "certifiers": tuple(f"smoothing:sigma=0.25:mode=fixed:n={n}:n0=10" for n in range(50, 54)),
        "norm": "l2",
        "eps": (0.5,),
    },
}
"""What `efficiency` measures: the network of the main job, 2,000 images of MNIST, cells that cost about the same."""
REPEATS = 4
WHERE = ("local", "ray", "bare")


def efficiency() -> dict[str, Any]:
    """Blocks a second once all workers have begun, and what workers add up to against one."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = ModelCache(Path(folder) / "cache")
        for kind, work in WORK.items():
            spec = BenchSpec(device="cpu", precision="fp32", recipe={"epochs": 1}, **work)
            plan = make_plan(spec, default_host())
            paces: dict[str, list[float]] = {}
            busy: dict[str, list[float]] = {}
            for repeat in range(REPEATS):
                for where in WHERE:
                    for workers in (1, 2):
                        name = f"{where} {workers}"
                        if where == "bare":
                            pace = _bare_pace(kind, workers, Path(folder) / "cache")
                        else:
                            directory = Path(folder) / f"{kind} {name} {repeat}"
                            pace, at_work = _pace(plan, directory, cache, where, workers)
                            busy.setdefault(name, []).append(at_work)
                        paces.setdefault(name, []).append(pace)
                        print(kind, name, paces[name][-1], flush=True)
            shares = {w: [b / (2 * a) for a, b in zip(paces[f"{w} 1"], paces[f"{w} 2"], strict=True)] for w in WHERE}
            found[kind] = {"blocks a second": paces, "efficiency": shares, "at work": busy}
    return found


def _bare_pace(kind: str, workers: int, cache: Path) -> float:
    """Blocks a second that as many processes measure side by side when nobody hands them out: what the machine gives
    to two processes.
    """
    words = [sys.executable, __file__, "--bare", kind, "--cache", str(cache)]
    started = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(0))
               for _ in range(workers)]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in started)


def bare(kind: str, cache: Path) -> None:
    """Run by `efficiency`: prints a line when ready, waits for one, and prints the blocks a second of eight seconds."""
    spec = BenchSpec(device="cpu", precision="fp32", pretrained=True, **WORK[kind])
    plan = make_plan(spec, default_host())
    from robustkit.engine.evaluate import Arena
    from robustkit.models.build import build_model
    from robustkit.models.weights import load_checkpoint

    x, _ = plan.data.test.batch(torch.arange(64))
    model = build_model("cnn", plan.data, host=default_host()).eval()
    load_checkpoint(model, next((cache / "models").glob("*.safetensors")))
    arena = Arena(model, "fp32", None, x)
    cell = next(cell for cell in plan.cells if cell.component is not None)
    measure_block(cell, 0, arena, plan, _nothing())
    print("ready", flush=True)
    sys.stdin.readline()
    began, number = time.monotonic(), 0
    while time.monotonic() - began < 8:
        measure_block(cell, number % plan.blocks, arena, plan, _nothing())
        number += 1
    print(number / (time.monotonic() - began), flush=True)


def _pace(plan: Plan, directory: Path, cache: ModelCache, where: str, workers: int) -> tuple[float, float]:
    """Blocks of attacks or certifiers a second, from the fourth one that comes back to the last but two; and the share
    of that time in which workers measured, by their own clocks.
    """
    executor = _executor(where, workers)
    times: list[float] = []

    def heard(event: object) -> None:
        if isinstance(event, BlockDone) and event.cell.component is not None:
            times.append(time.monotonic())

    store = RunStore(directory)
    store.open()
    try:
        records = run(plan, store, host=default_host(), cache=cache, listen=heard, executor=executor)
    finally:
        store.close()
        executor.shutdown()
    assert all(record["status"] == "ok" for record in records)
    pace = (len(times) - 6) / (times[-3] - times[3])
    seconds = sum(record["seconds"] for record in records if record["kind"] != "clean")
    return pace, pace * seconds / len(times) / workers


def _executor(where: str, workers: int) -> Executor:
    """One worker is a process here, too, so that one and two differ in nothing else."""
    if where == "local":
        from robustkit.executors.local import LocalExecutor

        return LocalExecutor(workers)
    found = executor_of("ray", workers, False)
    assert found is not None
    return found


def memory() -> dict[str, Any]:
    """The driver's largest memory, in processes of their own, over the number of samples."""
    found: dict[str, Any] = {}
    for count in (1000, 5000, 20000, 50000):
        words = [sys.executable, __file__, "--driver", str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=_environment(count))
        found[str(count)] = json.loads(done.stdout.splitlines()[-1])
        print("memory", count, found[str(count)], flush=True)
    return found


def driver(count: int) -> None:
    """Run by `memory`: a bench on one worker process; prints the most memory this process ever had, in MB."""
    spec = BenchSpec(
        dataset="scale_bench:images", model="scale_bench:net", pretrained=True, attacks=("fgsm",), precision="fp32"
    )
    plan = make_plan(spec, default_host())
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "run")
        store.open()
        executor = _executor("local", 1)
        run(plan, store, host=default_host(), cache=ModelCache(Path(folder)), executor=executor)
        store.close()
    print(json.dumps({"blocks": 2 * plan.blocks, "MB": _most_memory()}))


def _most_memory() -> float:
    """MB this program ever held; rusage's figure would begin with what the process held that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _environment(count: int) -> dict[str, str]:
    paths = os.pathsep.join([str(HERE), *(path for path in sys.path if path)])
    return os.environ | {"SCALE_IMAGES": str(count), "PYTHONPATH": paths}


def million() -> dict[str, Any]:
    """Plan, order and resume a bench of a million blocks: 50,000 images, 4,000 cells."""
    done = subprocess.run(
        [sys.executable, __file__, "--million"], capture_output=True, text=True, check=True, env=_environment(50_000)
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print("million", found, flush=True)
    return found


def planning() -> None:
    """Run by `million`; prints seconds and the most memory."""
    found: dict[str, Any] = {}
    spec = BenchSpec(
        dataset="scale_bench:images",
        model="cnn",
        attacks=tuple(f"pgd:steps={steps}" for steps in range(1, 20)),
        defenses=tuple(f"pgd_at:steps={steps}" for steps in range(1, 11)),
        seeds=tuple(range(20)),
        baseline=False,
        precision="fp32",
        device="cpu",
    )
    began = time.monotonic(), time.process_time()
    plan = make_plan(spec, default_host())
    found |= {"cells": len(plan.cells), "blocks": len(plan.cells) * plan.blocks, **_took("plan", began)}
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "run")
        store.open()
        _half(plan, store)
        store.close()
        began = time.monotonic(), time.process_time()
        store.open()
        good = good_records(plan, store)
        cells = {cell.key: cell for cell in plan.cells if cell.key not in good}
        lanes = [Lane(key, float(cell.passes or 0), plan.blocks) for key, cell in cells.items()]
        schedule = Schedule(lanes, 1000, lambda lane: open_blocks(cells[lane.key], plan, _nothing(), store))
        first = schedule.take()
        assert isinstance(first, Group)
        found |= {"good records": len(good), **_took("resume to the first group", began)}
        began = time.monotonic(), time.process_time()
        groups, blocks = 1, len(first.numbers)
        schedule.measured(first, 0.1)
        while isinstance(group := schedule.take(), Group):
            groups, blocks = groups + 1, blocks + len(group.numbers)
            schedule.measured(group, 0.1 * len(group.numbers))
        found |= {**_took("hand out the rest", began), "groups": groups, "open blocks": blocks}
        store.close()
    print(json.dumps(found | {"MB": _most_memory()}))


def _took(what: str, began: tuple[float, float]) -> dict[str, float]:
    """Seconds on the clock and of the processor: on a machine that others use, too, they differ."""
    return {f"{what}, s": time.monotonic() - began[0], f"{what}, CPU s": time.process_time() - began[1]}


def _half(plan: Plan, store: RunStore) -> None:
    """Every second cell finished, with its record and its 50,000 rows; sixteen others half measured."""
    rows = plan.count
    columns = {name: np.zeros(rows, np.float32) for name in ("dist_linf", "dist_l2", "dist_l1", "dist_l0")}
    columns |= {name: np.zeros(rows, np.int64) for name in ("index", "label", "clean_pred", "adv_pred", "target")}
    columns |= {name: np.zeros(rows, bool) for name in ("attacked", "success", "violation")}
    whole = encoded(columns, {})
    for cell in plan.cells[::2]:
        write_atomically(store.directory / "samples" / f"{cell.key}.parquet", whole)
        store.finish(record_of(cell, plan, None) | {"status": "ok", "error": None, "metrics": {}, "after": []}, None)
    part = content_of_block({name: values[:200] for name, values in columns.items()})
    for cell in [cell for cell in plan.cells[1::2] if cell.kind == "attack"][:16]:
        for number in range(0, plan.blocks, 2):
            keep_block(cell, number, part, None, None, store)


def content_of_block(columns: dict[str, np.ndarray]) -> bytes:
    from robustkit.pipeline.block import Measured

    return content_of(Measured(columns, {"after": [], "seconds": 0.1, "restored": []}))


def _nothing() -> Any:
    from robustkit.pipeline.block import Given

    return Given()


def dispatch() -> dict[str, Any]:
    """What handing out costs: a message there and back, and the driver's work for a block that came back."""
    found: dict[str, Any] = {}
    message = bytes(2000)
    os.environ["PYTHONPATH"] = _environment(0)["PYTHONPATH"]
    for where in ("local", "ray"):
        executor = _executor(where, 1)
        executor.begin("scale_bench:echo", {}, 1, False)
        executor.submit(message).result(120)
        took = []
        for _ in range(300):
            began = time.perf_counter()
            executor.submit(message).result(60)
            took.append(time.perf_counter() - began)
        executor.shutdown()
        found[f"{where} ms"] = 1000 * statistics.median(took)
    spec = BenchSpec(attacks=("fgsm", "pgd:steps=10", "pgd:steps=40"), pretrained=True, device="cpu", precision="fp32")
    plan = make_plan(spec, default_host())
    from robustkit.engine.evaluate import Arena
    from robustkit.models.build import build_model

    x, _ = plan.data.test.batch(torch.arange(64))
    arena = Arena(build_model("cnn", plan.data, host=default_host()).eval(), "fp32", None, x)
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        store.open()
        for cell in plan.cells:
            took, kept, serial = [], [], []
            for number in range(6):
                began = time.perf_counter()
                measured = measure_block(cell, number, arena, plan, _nothing())
                took.append(time.perf_counter() - began)
                content, given = content_of(measured), [0] * 200
                began, working = time.perf_counter(), time.thread_time()
                packed({"blocks": [{"number": number, "clean": given, "standing": None}]})
                keep_block(cell, number, unpacked(packed({"done": [number]}, [content]))[1][0], None, None, store)
                kept.append(time.perf_counter() - began)
                serial.append(time.thread_time() - working)
            found.setdefault("block s", {})[cell.label] = statistics.median(took[1:])
            found.setdefault("spread", {})[cell.label] = statistics.stdev(took[1:]) / statistics.mean(took[1:])
        found |= {"keep ms": 1000 * statistics.median(kept), "serial ms": 1000 * statistics.median(serial)}
        store.close()
    print("dispatch", found, flush=True)
    return found


def simulation(known: dict[str, Any]) -> dict[str, Any]:
    """The schedule that runs drive workers with, on a clock of its own, beside the bound that no schedule beats."""
    costs = known["dispatch"]
    rows = []
    for network, factor in (("small CNN", 1.0), ("100 times dearer", 100.0)):
        seconds = {label: factor * value for label, value in costs["block s"].items() if label != "clean"}
        for workers in (8, 64, 512, 1000):
            for hazards in (False, True):
                rows.append({"network": network, **_simulated(seconds, costs, workers, hazards)})
                print(rows[-1], flush=True)
    return {"rows": rows}


def _simulated(seconds: dict[str, float], costs: dict[str, Any], workers: int, hazards: bool) -> dict[str, Any]:
    """10 defenses x 20 attacks x 50,000 images: 50,000 blocks, over Ray. Each worker's thread keeps its blocks, while
    all threads share one processor of the driver.

    Hazards: one block in fifty takes five times as long, and a worker is lost at 1 % an hour, which costs what it was
    at and 30 s until another one is up.
    """
    draw = random.Random(workers)
    labels = sorted(seconds)
    lanes = [Lane(str(n), seconds[labels[n % len(labels)]], 250) for n in range(200)]
    service = {lane.key: [_drawn(lane.cost, draw, hazards) for _ in range(250)] for lane in lanes}
    schedule = Schedule(lanes, workers, lambda lane: range(250))
    send, keep, serial = (costs[name] / 1000 for name in ("ray ms", "keep ms", "serial ms"))
    total = sum(map(sum, service.values()))
    longest = max(map(max, service.values()))
    free = [(0.0, worker) for worker in range(workers)]
    back: list[tuple[float, int, int, Group, bool]] = []
    driver_free = end = 0.0
    lost = order = 0
    while free or back:
        while free and (not back or free[0][0] <= back[0][0]):
            group = schedule.take()
            if not isinstance(group, Group):
                break
            now, worker = heapq.heappop(free)
            work = sum(service[group.lane.key][number] for number in group.numbers)
            dies = hazards and draw.random() < 0.01 * work / 3600
            order += 1
            finish = now + send + work * (draw.random() if dies else 1.0)
            heapq.heappush(back, (finish, order, worker, group, dies))
        if not back:
            break
        finish, _, worker, group, dies = heapq.heappop(back)
        if dies:
            lost += 1
            schedule.lost(group)
            heapq.heappush(free, (finish + 30.0, worker))
            continue
        work = sum(service[group.lane.key][number] for number in group.numbers)
        driver_free = max(driver_free, finish) + serial * len(group.numbers)
        kept = max(driver_free, finish + keep * len(group.numbers))
        end = max(end, kept)
        schedule.measured(group, work)
        heapq.heappush(free, (kept, worker))
    bound = max(total / workers, longest)
    return {
        "workers": workers,
        "hazards": hazards,
        "makespan s": end,
        "bound s": bound,
        "efficiency": bound / end,
        "workers lost": lost,
    }


def _drawn(mean: float, draw: random.Random, hazards: bool) -> float:
    slow = 5.0 if hazards and draw.random() < 0.02 else 1.0
    return mean * slow * draw.lognormvariate(-0.005, 0.1)


def page(known: dict[str, Any]) -> str:
    """The result in Markdown; what was not measured is said to be missing."""
    lines = ["# Workers", ""]
    for name, about in known["about"].items():
        lines += [f"`{name}`: {about}", ""]
    lines += ["## Efficiency of two workers against one", ""]
    if "efficiency" in known:
        lines += ["| work | where | blocks/s, 1 worker | blocks/s, 2 workers | efficiency | two at work |",
                  "|---|---|---|---|---|---|"]  # fmt: skip
        for kind, found in known["efficiency"].items():
            for where, share in found["efficiency"].items():
                one, two = (found["blocks a second"][f"{where} {workers}"] for workers in (1, 2))
                at_work = _spread(found["at work"][f"{where} 2"]) if where != "bare" else "–"
                lines.append(f"| {kind} | {where} | {_spread(one)} | {_spread(two)} | {_spread(share)} | {at_work} |")
        lines += [
            "",
            f"One thread a worker; median [least, most] of {REPEATS} rounds in turn, without the start; the efficiency "
            "is that of each round's own pair. `two at work`: the share of the time in which the two measured a block, "
            "by their own clocks; what it lacks to 1 is what handing out costs. `bare`: as many processes that measure "
            "such blocks for eight seconds, with nobody who hands them out: what this machine gives to a second one.",
            "",
        ]
    else:
        lines += ["Not measured yet: it wants two quiet cores.", ""]
    if "memory" in known:
        lines += ["## The driver's memory", "", "| samples | blocks | most memory, MB |", "|---|---|---|"]
        lines += [f"| {count} | {row['blocks']} | {row['MB']:.0f} |" for count, row in known["memory"].items()]
        sizes = [row["MB"] for row in known["memory"].values()]
        lines += ["", f"The largest is {100 * (max(sizes) / min(sizes) - 1):.1f} % above the least.", ""]
    if "million" in known:
        lines += ["## A million blocks", "", "| what | |", "|---|---|"]
        lines += [f"| {name} | {value:,.2f} |" if isinstance(value, float) else f"| {name} | {value:,} |"
                  for name, value in known["million"].items()]  # fmt: skip
        lines += [
            "",
            "Half of the cells were finished, with 50,000 rows each, and sixteen more were half measured.",
            "",
        ]
    if "dispatch" in known:
        found = known["dispatch"]
        lines += ["## What handing out costs", ""]
        lines += [
            f"A message there and back: {found['local ms']:.2f} ms local, {found['ray ms']:.2f} ms Ray (of 300). "
            f"Keeping a block on disk: {found['keep ms']:.2f} ms, of which {found['serial ms']:.2f} ms keep the "
            "driver's processor busy. A group of small blocks takes about 500 ms, so that Ray's share of it is "
            f"{found['ray ms'] / 5:.2f} %. Seconds a block: "
            + ", ".join(f"{label} {value:.3f}" for label, value in found["block s"].items())
            + "."
        ]
        lines.append("")
    if "simulation" in known:
        lines += ["## Simulated: 50,000 blocks, 10 defenses x 20 attacks x 50,000 images", ""]
        lines += [" ".join((_simulated.__doc__ or "").split()), ""]
        lines += [
            "| network | workers | hazards | makespan s | bound s | efficiency | workers lost |",
            "|" + "---|" * 7,
        ]
        for row in known["simulation"]["rows"]:
            lines.append(
                f"| {row['network']} | {row['workers']} | {'yes' if row['hazards'] else 'no'} "
                f"| {row['makespan s']:,.1f} | {row['bound s']:,.1f} "
                f"| {row['efficiency']:.3f} | {row['workers lost']} |"
            )
        lines += ["", "The bound is max(total / workers, longest block); no schedule is faster.", ""]
    lines.append(NOTES.read_text(encoding="utf-8").rstrip())
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "efficiency": lambda known: efficiency(),
    "memory": lambda known: memory(),
    "million": lambda known: million(),
    "dispatch": lambda known: dispatch(),
    "simulation": simulation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which to measure")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    parser.add_argument("--driver", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--million", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bare", choices=list(WORK), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ |= {"ROBUSTKIT_PLUGINS": "", "RAY_worker_niceness": "0"}  # Ray's workers as nice as the local ones
    if given.driver:
        return driver(given.driver)
    if given.million:
        return planning()
    if given.bare:
        return bare(given.bare, given.cache)
    path = given.output.with_suffix(".json")
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"about": {}}
    for name in given.parts:
        known[name] = PARTS[name](known)
        known["about"][name] = stated()
        path.write_text(json.dumps(known, indent=1) + "\n")
    given.output.write_text(page(known), encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
