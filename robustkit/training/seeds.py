"""Random streams of a training: each epoch's are its own, and none is the caller's."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, epoch: int, purpose: str) -> int:
    """The seed of one stream, 63 bits; streams of other epochs or purposes are unrelated."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def reseed(device: torch.device, seed: int) -> None:
    """Seed the global generators of the CPU and of `device`, and of no other device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
