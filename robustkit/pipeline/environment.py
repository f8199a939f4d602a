"""On what a run ran: written beside its results."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = (
    "robustkit",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "torchattacks",
    "foolbox",
    "adversarial-robustness-toolbox",
    "pyautoattack",
)


def environment(device: str) -> dict[str, Any]:
    """Python, operating system, processor, threads and the versions of all libraries that matter."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    accelerator = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "accelerator": accelerator,
        "versions": versions,
    }


def processor() -> str:
    """The processor's name, with the vector units that decide the speed of low precision."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    text = info.read_text(errors="replace")
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {unit}" in text]
    return f"{name or platform.machine()} ({', '.join(units)})" if units else name or platform.machine()
