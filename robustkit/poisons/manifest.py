"""What a poisoned set ships with, so that nobody judges it by the wrong target or the wrong trigger."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from robustkit.contracts import Poison, Shape, Split
from robustkit.data.splits import fingerprint
from robustkit.params import to_plain

SCHEMA = 1


def manifest(name: str, poison: Poison, clean: Split, poisoned: Split, *, seed: int) -> dict[str, Any]:
    """Everything that makes a poisoned set again and judges it rightly, as plain JSON values.

    Args:
        name: of the poison, e.g. "badnets".
        poison: the component.
        clean, poisoned: the training set before and after.
        seed: of the generator that drew the marked images.

    Returns:
        name, params, target (None in all_to_all), mode, rate, seed, samples, relabelled (how many labels changed),
        trigger (hash of what it does to a fixed image) and hash (of the poisoned set).
    """
    x, _ = clean.batch(torch.arange(1))
    channels, height, width = x.shape[1:]
    mode = getattr(poison, "mode", "all_to_one")
    return {
        "schema": SCHEMA,
        "poison": name,
        "params": to_plain(poison),
        "target": None if mode == "all_to_all" else getattr(poison, "target", None),
        "mode": mode,
        "rate": getattr(poison, "rate", None),
        "seed": seed,
        "samples": len(clean),
        "relabelled": int((clean.labels != poisoned.labels).sum()) if len(clean) == len(poisoned) else None,
        "trigger": trigger_hash(poison, (channels, height, width)),
        "hash": fingerprint(poisoned),
    }


def trigger_hash(poison: Poison, shape: Shape) -> str:
    """SHA-256 of what the trigger makes of a fixed image of noise, in 256ths; 16 hex digits."""
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    levels = poison.trigger(x).mul(255).round().to(torch.uint8)
    return hashlib.sha256(levels.numpy().tobytes()).hexdigest()[:16]
