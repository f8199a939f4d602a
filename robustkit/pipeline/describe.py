"""What a run directory says of itself: what was asked, on which machine, in which precision."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from robustkit.pipeline.plan import Plan
from robustkit.pipeline.spec import to_toml
from robustkit.pipeline.store import RunStore
from robustkit.pipeline.subjects import Built
from robustkit.precision import Chosen, choose_precision


def describe_plan(plan: Plan, store: RunStore) -> None:
    """Write what was asked, and which cells it takes."""
    cells = {"cells": [cell.key for cell in plan.cells], "eps": [threat.eps for threat in plan.threats]}
    store.write("spec.toml", to_toml(plan.spec, plan.resolved()))
    store.write("cells.json", json.dumps(cells, indent=2) + "\n")


def search_precision(built: Built, plan: Plan, store: RunStore) -> tuple[Chosen, Tensor]:
    """Settled once for a run, and read again when it is resumed, so that all its cells agree; and the inputs for it."""
    example, _ = plan.data.test.batch(torch.arange(min(64, plan.count)))
    example = example.to(plan.device)
    wanted = plan.spec.precision
    known = store.read_json("environment.json")
    chosen: dict[str, Chosen] = known.get("search_precision", {})
    if wanted not in chosen:
        chosen[wanted] = choose_precision(built.model, example, wanted)
        write_environment(store, known | {"search_precision": chosen})
    return chosen[wanted], example


def write_environment(store: RunStore, content: dict[str, Any]) -> None:
    """Write the machine, its versions, and what was settled on it."""
    store.write("environment.json", json.dumps(content, indent=2) + "\n")
