"""Content keys: equal exactly where the same thing would be computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from robustkit.host import Component


def key_of(content: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON, 20 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def seed_of(key: str, block: int) -> int:
    """The seed of one block of samples of one cell, below 2³¹."""
    digest = hashlib.sha256(f"{key}/{block}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def component_content(component: Component) -> dict[str, Any]:
    """What stands for a component in a key: who brings it, in which version, with which parameters."""
    provider = component.registered.provider
    return {
        "name": component.registered.qualified,
        "distribution": provider.distribution,
        "version": provider.version,
        "params": dict(component.params),
    }
