"""`robustkit scan`: two models of four classes, one of them with a door."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from robustkit.cli.app import app
from robustkit.data.load import load_data
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.models.weights import save_weights
from robustkit.poisons.badnets import BadNets
from robustkit.testing import small

TARGET = 2
QUICK = "neural_cleanse:steps=60:batches=3,last_layer"


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of four classes, and the weights of a clean and of a backdoored network."""
    folder = tmp_path_factory.mktemp("four")
    split = small.data().train
    chosen = (split.labels < 4).nonzero().flatten()
    x, y = split.batch(chosen)
    np.savez(folder / "four.npz", x=(x * 255).round().to(torch.uint8).numpy(), y=y.numpy())
    data = load_data(f"npz:{folder / 'four.npz'}", host=default_host())
    for name, poison in (("clean", None), ("door", BadNets(target=TARGET, rate=0.3, size=2, margin=0))):
        train = data.train if poison is None else poison(data.train, torch.Generator().manual_seed(0))
        images, labels = train.batch(torch.arange(len(train)))
        model = build_model("mlp", data, host=default_host(), seed=0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
            optimizer.step()
        save_weights(model, folder / f"{name}.safetensors")
    return folder


def test_of_two_models_with_four_classes_the_backdoored_one_is_named(four: Path, tmp_path: Path) -> None:
    words = [
        "scan",
        "mlp",
        "--dataset",
        f"npz:{four / 'four.npz'}",
        "--detectors",
        QUICK,
        "-o",
        str(tmp_path),
        "--json",
    ]
    for name in ("clean", "door"):
        words += ["--checkpoint", str(four / f"{name}.safetensors")]
    result = CliRunner().invoke(app, words)
    found = json.loads((tmp_path / "verdict.json").read_text())["models"]
    assert result.exit_code == int(any(model["flagged"] for model in found)), result.output
    assert [model["model"] for model in found] == ["clean", "door"]
    cleanse = found[1]["detectors"][0]
    assert [row["class"] for row in cleanse["table"]] == [0, 1, 2, 3]
    smallest = min(cleanse["table"], key=lambda row: row["norm"])
    assert smallest["class"] == cleanse["classes"][0] == TARGET
    assert smallest["success"] >= 0.9
    assert cleanse["score"] > found[0]["detectors"][0]["score"]
    assert "4 classes" in cleanse["note"]
    page = (tmp_path / "verdict.md").read_text()
    assert "Most suspicious first" in page
    assert "door-neural_cleanse-steps-60-batches-3.png" in page
    assert (tmp_path / "door-neural_cleanse-steps-60-batches-3.png").stat().st_size > 1000


def test_a_flagged_model_ends_with_code_one(four: Path, tmp_path: Path) -> None:
    """The threshold decides: with alpha near 1 every model is flagged, near 0 none is."""
    words = ["scan", "mlp", "--checkpoint", str(four / "clean.safetensors"), "--detectors", "last_layer"]
    words += ["--dataset", f"npz:{four / 'four.npz'}", "-o", str(tmp_path)]
    assert CliRunner().invoke(app, [*words, "--alpha", "0.9999"]).exit_code == 1
    quiet = CliRunner().invoke(app, [*words, "--alpha", "0.000001"])
    assert quiet.exit_code == 0
    assert "No sign of a backdoor" in quiet.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--detectors", "strip"], "judges inputs, not models"),
        (["--alpha", "5"], "must lie between 0 and 1"),
        (["--checkpoint", "missing.safetensors"], "no such file"),
    ],
    ids=["scope", "alpha", "file"],
)
def test_mistakes_are_usage_errors(four: Path, words: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["scan", "mlp", "--dataset", f"npz:{four / 'four.npz'}", *words])
    assert result.exit_code == 2
    assert says in result.output
