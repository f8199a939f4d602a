"""ensemble_at: examples come from the fixed network, and only the other one is trained."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data
from robustkit.defenses.ensemble_at import EnsembleAT
from robustkit.defenses.fgsm_at import FGSMAT
from robustkit.defenses.standard import Standard
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.models.weights import save_weights
from robustkit.params import ParamError, UsageError
from tests.defenses.conftest import RADII, Objective, by_hand, difference, trained

EPS = RADII["linf"]


def on(fixed: nn.Module, share: float) -> Objective:
    """FGSM on the fixed network for the first of a batch, on the trained one for the rest; half the loss is clean."""

    def sign(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        return gradient.sign()

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        first = round(share * len(x))
        model.eval()
        moved = x.clone()
        if first:
            moved[:first] += EPS * sign(fixed, x[:first], y[:first])
        if first < len(x):
            moved[first:] += EPS * sign(model, x[first:], y[first:])
        model.train()
        return F.cross_entropy(model(torch.cat([moved.clamp(0, 1), x])), y.repeat(2))

    return objective


@pytest.fixture
def fixed(net: nn.Module, tmp_path: Path) -> tuple[nn.Module, Path]:
    """Another network of the same architecture, in eval mode, and its file."""
    other = copy.deepcopy(net).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    save_weights(other, tmp_path / "fixed.safetensors")
    return other, tmp_path / "fixed.safetensors"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_it_is_the_training_written_out(
    share: float, fixed: tuple[nn.Module, Path], net: nn.Module, bars: Data
) -> None:
    before = copy.deepcopy(fixed[0].state_dict())
    found = trained(EnsembleAT(source=str(fixed[1]), share=share), net, bars)
    assert difference(found, by_hand(net, bars, on(fixed[0], share))) < 1e-5
    assert difference(found, by_hand(net, bars, on(fixed[0], 0.25))) > 1e-4
    assert all(torch.equal(value, before[name]) for name, value in fixed[0].state_dict().items())


def test_without_a_share_it_is_fgsm_training(fixed: tuple[nn.Module, Path], net: nn.Module, bars: Data) -> None:
    found = trained(EnsembleAT(source=str(fixed[1]), share=0.0), net, bars)
    assert difference(found, trained(FGSMAT(clean_share=0.5), net, bars)) < 1e-6


def test_without_a_source_it_is_an_undefended_network_trained_first(net: nn.Module, bars: Data, tmp_path: Path) -> None:
    save_weights(trained(Standard(), net, bars), tmp_path / "standard.safetensors")
    found = trained(EnsembleAT(), net, bars)
    assert difference(found, trained(EnsembleAT(source=str(tmp_path / "standard.safetensors")), net, bars)) < 1e-6
    again = trained(EnsembleAT(), net, bars, directory=tmp_path / "kept")
    assert difference(found, again) < 1e-6
    assert (tmp_path / "kept" / "source" / "checkpoint.pt").is_file()


def test_the_provenance_names_another_architecture(net: nn.Module, bars: Data, tmp_path: Path) -> None:
    path = tmp_path / "linear.safetensors"
    other = build_model("linear", bars, host=default_host(), seed=4).eval()
    save_weights(other, path)
    with pytest.raises(UsageError, match=r"ensemble_at: source: .*does not fit the model"):
        trained(EnsembleAT(source=str(path)), net, bars)
    path.with_suffix(".json").write_text(json.dumps({"model": "linear"}))
    found = trained(EnsembleAT(source=str(path)), net, bars)
    assert difference(found, by_hand(net, bars, on(other, 1.0))) < 1e-5


def test_mistakes_are_told(net: nn.Module, bars: Data) -> None:
    with pytest.raises(UsageError, match=r"ensemble_at: source: checkpoint nowhere\.pt: there is no such file"):
        trained(EnsembleAT(source="nowhere.pt"), net, bars)
    with pytest.raises(ParamError, match="share=2"):
        EnsembleAT(share=2.0)
