from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustkit.precision as precision
from robustkit.params import UsageError
from robustkit.precision import choose_precision, exact_float32, precision_timings, search_model
from robustkit.rescale import Rescaled

Behaviour = tuple[Tensor, Tensor]


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16, 5),
        )
        model(torch.rand(64, 3, 8, 8))
    return model.eval()


def _x(count: int = 6) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(4))


def _behaviour(model: nn.Module, x: Tensor) -> Behaviour:
    point = x.clone().requires_grad_()
    logits = model(point)
    return logits.detach(), torch.autograd.grad(F.cross_entropy(logits, torch.arange(len(x)) % 5), point)[0]


@pytest.mark.parametrize(("chosen", "rtol"), [("fp32", 1e-4), ("bf16", 0.2), ("fp16", 0.05)])
def test_the_copy_behaves_like_the_model_and_leaves_it_alone(chosen: precision.Chosen, rtol: float) -> None:
    model, x = _network().train(), _x()
    before = copy.deepcopy(model.state_dict())
    searched = search_model(model, chosen, x[:2])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in searched.parameters())
    assert not any(module.training for module in searched.modules())
    found, expected = _behaviour(searched, x), _behaviour(model.eval(), x)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < rtol
    rounded = torch.equal(found[0], found[0].bfloat16().float())
    assert rounded is (chosen == "bf16")


def test_batch_norm_is_folded_into_convolutions() -> None:
    searched = search_model(_network(), "fp32", _x(2))
    kinds = [type(module) for module in searched.modules()]
    assert nn.Conv2d in kinds
    assert nn.BatchNorm2d not in kinds


class _Views(nn.Module):
    """Flattens by `view`, which refuses channels-last activations."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.first(x).view(x.size(0), -1)))


class _Noisy(nn.Module):
    """Draws in eval mode; a trace would freeze the draw."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _network()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network(x + 0.1 * torch.randn(3, 8, 8)))


class _Branches(nn.Module):
    """Branches on its values, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _network()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network(x) if float(x.sum()) > 0 else -self.network(x))


class _Blind(nn.Module):
    """Hides a part of its gradient, in a way that a trace does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _network()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.network(x)
        return cast(Tensor, self.network(x) + 3 * hidden)


@pytest.mark.parametrize("model", [_Views, _Branches, _Blind])
@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_networks_that_resist_are_searched_as_they_are(model: type[nn.Module], chosen: precision.Chosen) -> None:
    network, x = model().eval(), _x()
    found, expected = _behaviour(search_model(network, chosen, x[:2]), x), _behaviour(network, x)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm() / b.norm()) < (1e-4 if chosen == "fp32" else 0.2)


def test_draws_of_a_network_are_not_frozen() -> None:
    searched, x = search_model(_Noisy().eval(), "fp32", _x(2)), _x()
    assert not torch.equal(searched(x), searched(x))


def test_a_network_that_overflows_is_searched_in_float32() -> None:
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Linear(16, 5)).eval(), _x()
    with torch.no_grad():
        network[1].weight.mul_(1e6)  # type: ignore[operator, union-attr]  # float16 ends at 65,504
        network[2].weight.mul_(1e-6)  # type: ignore[operator, union-attr]
    assert torch.equal(search_model(network, "fp16", x[:2])(x), search_model(network, "fp32", x[:2])(x))


def test_what_cannot_be_copied_is_used_itself() -> None:
    class Stubborn(nn.Flatten):
        def __deepcopy__(self, memo: object) -> nn.Module:
            raise RuntimeError("no")

    network = Stubborn()
    searched = search_model(network, "bf16", _x(2))
    assert network in list(searched.modules())
    assert torch.equal(searched(_x()), _x().flatten(1))


def test_copies_and_timings_leave_the_random_stream() -> None:
    before = torch.get_rng_state()
    search_model(_Noisy().eval(), "fp32", _x(2))
    precision_timings(_Noisy().eval(), _x(2), repeats=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("slow", "expected"), [(0.5, "bf16"), (0.89, "bf16"), (0.95, "fp32"), (2.0, "fp32")])
def test_auto_takes_bf16_only_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, slow: float, expected: str
) -> None:
    monkeypatch.setattr(precision, "_cpu_multiplies_bf16", lambda: True)
    monkeypatch.setattr(precision, "precision_timings", lambda *_: {"fp32": 1.0, "bf16": slow})
    assert choose_precision(_network(), _x()) == expected


def test_auto_times_nothing_on_a_cpu_that_emulates_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_multiplies_bf16", lambda: False)
    monkeypatch.setattr(precision, "precision_timings", lambda *_: pytest.fail("timed"))
    assert choose_precision(_network(), _x()) == "fp32"
    assert choose_precision(_network(), _x(), "bf16") == "bf16"


def test_timings_are_of_both_and_work_where_the_caller_wants_no_gradients() -> None:
    with torch.inference_mode():
        timings = precision_timings(_network(), _x(2), repeats=1)
    assert set(timings) == {"fp32", "bf16"}
    assert min(timings.values()) > 0


def test_a_wish_is_obeyed_except_half_precision_on_a_cpu() -> None:
    assert choose_precision(_network(), _x(), "bf16") == "bf16"
    assert choose_precision(_network(), _x(), "fp32") == "fp32"
    with pytest.raises(UsageError, match="fp16 is for GPUs"):
        choose_precision(_network(), _x(), "fp16")


def test_exact_float32_lifts_what_rounds_and_puts_it_back() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), exact_float32():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)


def test_exact_float32_understands_settings_by_operation() -> None:
    conv = getattr(torch.backends.cudnn, "conv", None)
    if conv is None:
        pytest.skip("this torch has no precision by operation")
    product = torch.backends.mkldnn.matmul
    before = conv.fp32_precision, product.fp32_precision
    conv.fp32_precision, product.fp32_precision = "ieee", "bf16"  # the older switches refuse to answer now
    try:
        with exact_float32():
            assert torch.backends.cudnn.rnn.fp32_precision == "ieee"
            assert product.fp32_precision == "ieee"
        assert (conv.fp32_precision, product.fp32_precision) == ("ieee", "bf16")
        assert torch.backends.cudnn.rnn.fp32_precision == "tf32"
    finally:
        conv.fp32_precision, product.fp32_precision = before


def test_gradients_of_confident_samples_survive_float16() -> None:
    """A loss of 1e-9 has a gradient below float16's smallest number; scaled by sample it keeps its direction."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 5).half().requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.linear(x.half()).float())

    torch.manual_seed(0)
    half, x, y = Half(), torch.rand(4, 12), torch.tensor([0, 1, 2, 3])
    weights = torch.tensor([1e-9, 1e-5, 1.0, 0.0])[:, None]  # of each sample in the loss

    def gradient(network: nn.Module) -> Tensor:
        point = x.clone().requires_grad_()
        return torch.autograd.grad((weights * F.log_softmax(network(point), dim=1))[torch.arange(4), y].sum(), point)[0]

    exact = gradient(copy.deepcopy(half.linear).float())
    assert float(gradient(half)[0].abs().max()) == 0  # what it is about
    found = gradient(Rescaled(half))
    torch.testing.assert_close(
        found / exact.norm(dim=1, keepdim=True).clamp_min(1e-30),
        exact / exact.norm(dim=1, keepdim=True).clamp_min(1e-30),
        rtol=5e-3,
        atol=2e-3,
    )
    assert float(found[3].abs().max()) == 0
    assert torch.equal(Rescaled(half)(x), half(x))
