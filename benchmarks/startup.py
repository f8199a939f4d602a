"""How long `robustkit --help` and `robustkit list` take in a cold process; writes results/startup.md.

    python benchmarks/startup.py

The commands are run in turn, so that a busy moment of the machine meets all of them. Wall time is what a user waits
for; CPU time is there because it depends less on what else the machine does. A bare interpreter is the floor, and
the imports of torch and pandas are what the lazy host keeps out.
"""

from __future__ import annotations

import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

ROUNDS = 15
BUDGET = 0.35
SCRIPT = str(Path(sys.executable).parent / "robustkit")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "robustkit --help": [SCRIPT, "--help"],
    "robustkit list": [SCRIPT, "list"],
    "robustkit list attacks --format json": [SCRIPT, "list", "attacks", "--format", "json"],
    "robustkit plugins": [SCRIPT, "plugins"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    "python -c 'import pandas'": [sys.executable, "-c", "import pandas"],
}
RESULT = Path(__file__).parent / "results" / "startup.md"


def measure(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def processor() -> str:
    """The model's name where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    for command in COMMANDS.values():
        measure(command)  # fills the disk cache and writes bytecode
    load = os.getloadavg()[0]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(measure(command))

    plugins = sum(1 for point in metadata.entry_points(group="robustkit"))
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("robustkit", "typer", "pluggy", "pydantic"))
    lines = [
        "# Start-up",
        "",
        f"Written by `benchmarks/startup.py`: {ROUNDS} cold processes of each command, in turn, disk cache warm.",
        f"To reach: `robustkit --help` and `robustkit list` in at most {BUDGET} s.",
        "",
        "| command | median s | min-max s | median CPU s |",
        "| --- | --- | --- | --- |",
    ]
    for name, rows in times.items():
        walls, cpus = [wall for wall, _ in rows], [cpu for _, cpu in rows]
        spread = f"{min(walls):.3f}-{max(walls):.3f}"
        lines.append(f"| `{name}` | {statistics.median(walls):.3f} | {spread} | {statistics.median(cpus):.3f} |")
    lines += [
        "",
        f"Machine: {processor()}, {os.cpu_count()} cores, {platform.system()}; "
        f"load average {load:.1f} at the start, niceness {os.nice(0)}. ",
        f"Versions: Python {platform.python_version()}, {packages}; {plugins} plugins installed. ",
        f"Date: {datetime.date.today().isoformat()}.",
        "",
    ]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
