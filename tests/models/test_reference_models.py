"""Networks that others trained, against their published and measured error rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustkit.contracts import Data
from robustkit.data.load import load_data
from robustkit.data.splits import ArraySplit, Subset
from robustkit.host import Host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint
from tests.made import data_of


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which their factories are imported."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return "reference_networks"


def errors(model: nn.Module, data: Data) -> int:
    wrong = 0
    with torch.inference_mode():
        for index in torch.arange(len(data.test)).split(1000):
            x, y = data.test.batch(index)
            wrong += int((model.eval()(x).argmax(dim=1) != y).sum())
    return wrong


@pytest.mark.parametrize("text", ["FACTORY", "cnn"])
def test_mnist_network_of_wong_and_kolter(real_data: Path, here: str, text: str) -> None:
    host = Host(discover=False)
    data = load_data("mnist", host=host, data_dir=real_data)
    model = build_model(text.replace("FACTORY", f"{here}:wong_kolter"), data, host=host)
    load_checkpoint(model, real_data / "reference_models" / "mnist_kw_eps0.1.safetensors")
    assert errors(model, data) == 180  # 1.80 % of 10,000


def test_cifar_resnet20(real_data: Path, here: str) -> None:
    host = Host(discover=False)
    with np.load(real_data / "cifar10" / "test.npz") as file:
        test = ArraySplit(torch.from_numpy(file["x"]), torch.from_numpy(file["y"]).long())
    part = Subset(test, torch.arange(1000))
    # mean and std must not be applied to a whole model
    data = data_of(part, "0123456789", mean=(0.1, 0.2, 0.3), std=(9.0, 9.0, 9.0))
    model = build_model(f"{here}:resnet20", data, host=host)
    load_checkpoint(model, real_data / "reference_models" / "cifar10_resnet20.safetensors")
    assert errors(model, data) / 1000 == pytest.approx(0.0827, abs=0.018)  # two standard errors
