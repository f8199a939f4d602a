"""What driver and workers tell each other: plain values and bytes, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = 8


def packed(plain: Mapping[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """Plain values as JSON, and parts of bytes behind them."""
    head = json.dumps({"plain": plain, "parts": [len(part) for part in parts]}).encode()
    return b"".join([len(head).to_bytes(_HEAD, "big"), head, *parts])


def unpacked(message: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """What `packed` was given."""
    end = _HEAD + int.from_bytes(message[:_HEAD], "big")
    head = json.loads(message[_HEAD:end])
    parts = []
    for length in head["parts"]:
        parts.append(message[end : end + length])
        end += length
    return head["plain"], parts
