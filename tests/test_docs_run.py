"""What the pages say to type is typed, on few images and short trainings; their Python is run as it stands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import robustkit

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "plugins").glob("*/README.md")),
    )
    if page.name != "write-a-plugin.md"  # run whole by tests/testing
]
_COMMAND = re.compile(r"^(?: {4,}|\$ )(robustkit .+)$", re.MULTILINE)
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_RUNS = ("NAME", "OLD", "NEW", "OTHER", "mnist_10k-cnn-1a2b3c4d")
SMALLER = {
    "bench": {"--limit": "4", "--epochs": "1"},
    "train": {"--epochs": "1"},
    "attack": {"--epochs": "1", "--limit": "10"},
    "certify": {"--epochs": "1", "--limit": "3"},
    "study": {"--epochs": "1", "--limit": "40"},
}
VERDICTS = ("--fail-under", "scan ")
"""Commands whose exit code 1 is an answer."""
NET = """
from torch import nn

def build(shape, classes):
    channels, height, width = shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 16), nn.ReLU(), nn.Linear(16, classes))

resnet = build
"""


LOSS = """
from torch.nn.functional import cross_entropy

def loss(logits, y):
    return cross_entropy(logits, y, reduction="none")
"""


def label(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory that holds what the pages take for granted, and a cache that all pages share."""
    place = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        patch.setenv("ROBUSTKIT_CACHE", str(place / "cache"))
        (place / "my_package").mkdir()
        (place / "my_package" / "__init__.py").touch()
        (place / "my_package" / "nets.py").write_text(NET)
        (place / "my_models.py").write_text(NET)
        (place / "mine.py").write_text(LOSS)
        rng = np.random.default_rng(0)
        images, labels = rng.random((40, 1, 28, 28), dtype=np.float32), np.arange(40) % 10
        np.savez(place / "images.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        (place / "clean.json").write_text(json.dumps({"neural_cleanse": [1.0, 1.2, 1.1, 0.9, 1.3]}))
        tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
        found = re.search(r"^```toml\n(.*?)^```", tutorial, re.MULTILINE | re.DOTALL)
        assert found is not None
        (place / "bench.toml").write_text(found[1])
        robustkit.bench(["standard"], ["fgsm"], directory=place / "runs" / "NAME", limit=20, recipe={"epochs": 1})
        for name in _RUNS[1:]:
            shutil.copytree(place / "runs" / "NAME", place / "runs" / name)
        yield place


def smaller(words: list[str]) -> list[str]:
    """The command on fewer images and epochs and with one seed; what it gives itself for them is replaced."""
    words = ["0" if before == "--seeds" else word for before, word in zip(["", *words], words, strict=False)]
    for option, value in SMALLER.get(words[0], {}).items():
        if "--dry-run" in words or (words[0] == "study" and words[1] == "linear"):
            continue
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


def weights_for(words: list[str], folder: Path) -> None:
    """The checkpoints a command names, of the architecture it names."""
    from robustkit.host import default_host
    from robustkit.models.build import build_model
    from robustkit.models.weights import save_weights

    names = [words[place + 1] for place, word in enumerate(words) if word == "--checkpoint"]
    named = words[words.index("--model") + 1] if "--model" in words else words[1] if words[0] == "scan" else "cnn"
    from robustkit.data.load import load_data

    host = default_host()
    data = load_data("mnist_10k", host=host)
    for number, name in enumerate(name for name in names if "/" not in name):
        torch.manual_seed(number)
        (folder / name).unlink(missing_ok=True)
        save_weights(build_model(named, data, host=host), folder / name)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=label)
@pytest.mark.filterwarnings("default")
def test_its_commands_work(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from robustkit.cli.app import app

    monkeypatch.setenv("ROBUSTKIT_CACHE", str(folder / "cache"))
    for line in dict.fromkeys(_COMMAND.findall(page.read_text(encoding="utf-8"))):
        words = shlex.split(line, comments=True)[1:]
        if "cifar10" in words or "--executor" in words or any(word.startswith("imagenet:") for word in words):
            continue  # their files, and a cluster, are nothing that a test may ask for
        weights_for(words, folder)
        result = CliRunner().invoke(app, smaller(words))
        allowed = {0, 1} if any(word in line for word in VERDICTS) else {0}
        assert result.exit_code in allowed, f"{line}\n{result.output}\n{result.exception!r}"


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_its_python_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `model`, `x` and `y` of the reader's own at hand, in the order of the page."""
    torch.manual_seed(0)
    given = {
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4)),
        "x": torch.rand(6, 3, 2, 2),
        "y": torch.arange(6) % 4,
    }
    for block in _PYTHON.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, label(page), "exec"), given)
    assert "Traceback" not in capsys.readouterr().err
