"""Conformance kit for plugin authors: what the host relies on, as checks generated from a plugin's entries.

In a plugin's tests, three lines:

    import robustkit_mine
    from robustkit import testing

    @testing.parametrize(robustkit_mine, expected_failures={"slow_one-l2-linear_optimum": "stops early"})
    def test_conformance(check): check()

On the command line: `robustkit plugins check NAME`, which calls `run` and exits 1 where a check fails.

Division of labour. The host's guard sets eval mode, gradients, seeds and skips empty batches, and it restores
modes, `requires_grad`, `.grad`, weights, buffers and random states. Checks named `host_*` go through the host
(`robustkit.engine.evaluate.attack_block`) and show that plugin and guard get on together. All others call the
component itself, the way the guard would, and fail on what no host can mend.

Ids read `provider.entry-check` or `provider.entry-norm-check`, e.g. `torchattacks.pgd-linf-ball_and_box`;
checks of a whole plugin read `provider-check`. Expected failures are named by the id without the provider, in
which `*` stands for anything: "cw-*", "*-split_independence".
"""

from __future__ import annotations

from robustkit.testing.kit import Check, Outcome, checks, parametrize, run
from robustkit.testing.yardstick import Yardstick, yardstick

__all__ = ["Check", "Outcome", "Yardstick", "checks", "parametrize", "run", "yardstick"]
