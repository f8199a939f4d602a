"""RobustKit: how robust is this model, really?

`bench`, `certify`, `train`, `evaluate` and `load` are imported with torch and pandas when they are first used;
everything else here is light, so that a plugin's `__init__` may import it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robustkit.contracts import Threat
from robustkit.hookspecs import (
    AttackEntry,
    CertifierEntry,
    DatasetEntry,
    DefenseEntry,
    DetectorEntry,
    ModelEntry,
    PoisonEntry,
    hookimpl,
)
from robustkit.params import ParamError, UsageError, check, param

if TYPE_CHECKING:
    from robustkit.api import bench, load, train
    from robustkit.certification import certify
    from robustkit.evaluation import evaluate

__all__ = [
    "AttackEntry",
    "CertifierEntry",
    "DatasetEntry",
    "DefenseEntry",
    "DetectorEntry",
    "ModelEntry",
    "ParamError",
    "PoisonEntry",
    "Threat",
    "UsageError",
    "bench",
    "certify",
    "check",
    "evaluate",
    "hookimpl",
    "load",
    "param",
    "train",
]

_LAZY = dict.fromkeys(("bench", "load", "train"), "robustkit.api") | {
    "certify": "robustkit.certification",
    "evaluate": "robustkit.evaluation",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from robustkit.discovery import installed_version

        return installed_version()
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = found  # the next use does not come here
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
