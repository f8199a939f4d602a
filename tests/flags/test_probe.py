"""Models built to mask gradients are flagged, each for its reason; honest ones are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustkit.flags.probe import probe, safely_probed
from robustkit.testing import small


class Around(nn.Module):
    """A network with something done to its input and to its logits."""

    def __init__(
        self,
        network: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> None:
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.network(self.before(x)))
        return out


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small.trained().requires_grad_(False)


def names(model: nn.Module) -> set[str]:
    x, y = small.whole(small.data().test)
    return {flag.name for flag in probe(model, x, y)}


def test_an_honest_network_has_none(network: nn.Module) -> None:
    assert names(network) == set()


def test_nor_has_one_trained_on_noise_nor_a_linear_one() -> None:
    x, y = small.whole(small.data().train)
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    for model in (linear, small.untrained()):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            noisy = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
            nn.functional.cross_entropy(model(noisy), y).backward()
            optimizer.step()
        assert names(model.eval()) == set()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, lambda z: 1e4 * z, {"no-gradients", "stands-at-any-eps"}, id="temperature"),
        pytest.param(None, lambda z: (100 * z).softmax(dim=1), {"no-gradients"}, id="saturating-loss"),
        pytest.param(lambda x: (7 * x).round() / 7, None, {"no-gradients"}, id="quantised-input"),
        pytest.param(lambda x: x.detach(), None, {"no-gradients"}, id="no-gradient-at-all"),
        pytest.param(lambda x: x + 0.05 * torch.randn_like(x), None, {"random-output"}, id="stochastic-input"),
        pytest.param(None, lambda z: nn.functional.dropout(z, 0.3), {"random-output"}, id="stochastic-layer"),
        pytest.param(lambda x: x + 0.1 * torch.sin(3000 * x), None, {"rough-loss"}, id="shattered"),
        pytest.param(lambda x: x / 255, None, {"input-scale"}, id="expects-grey-levels"),
        pytest.param(lambda x: x - x.mean(dim=0, keepdim=True) + 0.5, None, {"batch-dependent"}, id="batch-statistics"),
    ],
)
def test_a_masked_one_is_flagged(
    network: nn.Module,
    before: Callable[[Tensor], Tensor] | None,
    after: Callable[[Tensor], Tensor] | None,
    expected: set[str],
) -> None:
    model = Around(network, before or (lambda x: x), after or (lambda z: z)).eval()
    assert expected <= names(model)


def test_with_a_straight_through_gradient_nothing_is_hidden(network: nn.Module) -> None:
    """Quantised as above, with BPDA."""
    assert names(Around(network, lambda x: x + ((7 * x).round() / 7 - x).detach())) == set()


def test_batchnorm_with_batch_statistics_is_batch_dependent() -> None:
    model = small.trained()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
            module.track_running_stats = False
    assert "batch-dependent" in names(model)


def test_the_evidence_has_the_numbers(network: nn.Module) -> None:
    x, y = small.whole(small.data().test)
    model = Around(network, after=lambda z: 1e4 * z)
    flag = next(flag for flag in probe(model, x, y) if flag.name == "no-gradients")
    right = int((network(x[:64]).argmax(dim=1) == y[:64]).sum())
    assert f"of {right} inputs" in flag.evidence
    assert flag.to_plain() == {"name": "no-gradients", "evidence": flag.evidence}


def test_the_model_comes_back_as_it_was(network: nn.Module) -> None:
    model = small.trained().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe(model, *small.whole(small.data().test))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_nothing_right_and_nothing_at_all(network: nn.Module) -> None:
    x, y = small.whole(small.data().test)
    assert probe(network, x, (network(x).argmax(dim=1) + 1) % 10) == []
    assert probe(network, x[:0], y[:0]) == []


def test_a_failing_model_is_said_to_be_unchecked() -> None:
    model = nn.Linear(3, 2)  # knows no images
    (flag,) = safely_probed(model, *small.whole(small.data().test))
    assert flag.name == "unchecked"
    assert "RuntimeError" in flag.evidence
