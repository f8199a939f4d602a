"""Conformance kit for plugin authors: what the host relies on, as checks generated from a plugin's entries.

In a plugin's tests, three lines:

    import robustkit_mine
    from robustkit import testing

    @testing.parametrize(robustkit_mine)
    def test_conformance(check): check()

On the command line: `robustkit plugins check NAME`, which calls `run` and exits 1 where a check fails.

Division of labour. The host's guard sets eval mode, gradients, seeds and skips empty batches, and it restores
modes, `requires_grad`, `.grad`, weights, buffers and random states. Checks named `host_*` go through the host
(`robustkit.engine.evaluate.attack_block`) and show that plugin and guard get on together. All others call the
component itself, the way the guard would, and fail on what no host can mend.

Ids read `provider.entry-check` or `provider.entry-norm-check`, e.g. `torchattacks.pgd-linf-ball_and_box`;
checks of a whole plugin read `provider-check`. Expected failures are named by the id without the provider, in
which `*` stands for anything: {"cw-l2-linear_optimum": "one fixed c", "ead*-split_independence": "aborts on the
sum of the batch"}. Give them to `parametrize`, or declare them as EXPECTED_FAILURES, with SETTINGS for quick
budgets, in a module `conformance` of the plugin's package, so that the command line knows them too.
"""

from __future__ import annotations

from robustkit.testing.kit import Check, Outcome, checks, parametrize, run
from robustkit.testing.yardstick import Yardstick, yardstick

__all__ = ["Check", "Outcome", "Yardstick", "checks", "parametrize", "run", "yardstick"]
