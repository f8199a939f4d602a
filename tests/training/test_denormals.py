"""Denormal numbers are 0 inside of the block, and afterwards what they were before."""

from __future__ import annotations

import pytest
import torch

from robustkit.training.denormals import denormals_flushed

SMALLEST = 1.1754943508222875e-38


def half() -> float:
    return float(torch.full((), SMALLEST) / 2)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this CPU cannot flush denormals")
@pytest.mark.parametrize("before", [False, True])
def test_inside_they_are_zero_and_afterwards_as_before(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with denormals_flushed():
            inside = half()
        after = half()
    finally:
        torch.set_flush_denormal(False)
    assert inside == 0
    assert (after == 0) is before
