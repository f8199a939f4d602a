from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.contracts import Data
from robustkit.data.load import load_data
from robustkit.data.splits import ArraySplit
from robustkit.hookspecs import DatasetEntry, hookimpl
from robustkit.host import Host, NameNotFound
from robustkit.params import ParamError, UsageError
from tests.made import data_of


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(discover=False)


def tiny(images: torch.Tensor | None = None) -> Data:
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) if images is None else images
    return data_of(ArraySplit(x, torch.arange(len(x)) % 2), "ab", name="tiny", fingerprint="tiny")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An importable module "users_data"."""
    made = ModuleType("users_data")
    monkeypatch.setitem(sys.modules, "users_data", made)
    return made


def write_npz(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=np.full((10, 8, 8), 9, np.uint8), y=np.arange(10) % 2)
    return path


def test_a_registered_name(host: Host) -> None:
    assert load_data("mnist_10k", host=host).shape == (1, 28, 28)
    assert load_data("robustkit.mnist_10k", host=host).name == "mnist_10k"


@pytest.mark.parametrize("name", ["set.npz", "a:b.npz", "a=b.npz", "size=3:seed=4.npz", "with space.npz"])
def test_paths_may_hold_colons_and_equals_signs(tmp_path: Path, host: Host, name: str) -> None:
    path = write_npz(tmp_path / "deep=er" / name)
    for text in (f"npz:{path}", f"npz:path={path}", f"robustkit.npz:{path}"):
        assert len(load_data(text, host=host).test) == 2


def test_parameters_after_a_path(tmp_path: Path, host: Host) -> None:
    for name in ("a", "b"):
        (tmp_path / "x:y" / name).mkdir(parents=True)
        for k in range(5):
            Image.new("RGB", (12, 12), (k, 0, 0)).save(tmp_path / "x:y" / name / f"{k}.png")
    data = load_data(f"imagefolder:{tmp_path}/x:y:size=12:seed=3", host=host)
    assert data.shape == (3, 12, 12)
    with pytest.raises(UsageError, match="gives 'size' twice"):
        load_data(f"imagefolder:{tmp_path}/x:y:size=12:size=16", host=host)
    with pytest.raises(ParamError, match=r"size.*at least 8"):
        load_data(f"imagefolder:{tmp_path}/x:y:size=2", host=host)


@pytest.mark.parametrize("text", ["npz", "npz:", "imagefolder:size=32"])
def test_a_missing_path_is_named(host: Host, text: str) -> None:
    with pytest.raises(UsageError, match="path"):
        load_data(text, host=host)


def test_unknown_names_and_parameters(host: Host) -> None:
    with pytest.raises(NameNotFound, match=r"'mnst'.*mnist"):
        load_data("mnst", host=host)
    with pytest.raises(ParamError, match="no parameter 'size'"):
        load_data("mnist_10k:size=3", host=host)
    with pytest.raises(UsageError, match="there is no such file"):
        load_data("npz:/absent/file.npz", host=host)


def test_a_factory(host: Host, module: ModuleType) -> None:
    module.make = tiny  # type: ignore[attr-defined]
    assert load_data("users_data:make", host=host).name == "tiny"


def test_a_factory_in_the_working_directory(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_set.py").write_text(
        "from robustkit.data.mnist_10k import MNIST10k\n\ndef make():\n    return MNIST10k()()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    assert load_data("my_own_set:make", host=host).name == "mnist_10k"
    monkeypatch.delitem(sys.modules, "my_own_set")


def test_factories_that_fail_are_the_users_to_mend(host: Host, module: ModuleType) -> None:
    module.number = 3  # type: ignore[attr-defined]
    module.other = lambda: [1, 2]  # type: ignore[attr-defined]
    module.broken = lambda: 1 / 0  # type: ignore[attr-defined]
    module.wants = lambda path: path  # type: ignore[attr-defined]
    for text, words in (
        ("users_data:absent", "has no 'absent'"),
        ("users_data:number", "is a int"),
        ("users_data:other", "returned a list"),
        ("users_data:broken", "ZeroDivisionError"),
        ("users_data:wants", "TypeError"),
        ("no_such_package.data:make", "cannot be imported"),
    ):
        with pytest.raises(UsageError, match=words):
            load_data(text, host=host)


def test_what_a_source_returns_is_looked_at(host: Host, module: ModuleType) -> None:
    class Normalised:
        labels = torch.zeros(3, dtype=torch.int64)

        def __len__(self) -> int:
            return 3

        def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.randn(len(index), 1, 8, 8), self.labels[index]

    good = tiny()
    empty = ArraySplit(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    for data, words in (
        (replace(good, test=Normalised()), "normalise"),
        (replace(good, shape=(3, 8, 8)), r"declares \(3, 8, 8\)"),
        (replace(good, classes=("a",)), "with 1 classes"),
        (replace(good, val=empty), "val part is empty"),
    ):
        module.make = lambda data=data: data  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match=words):
            load_data("users_data:make", host=host)


@dataclass(frozen=True, kw_only=True)
class PluginSet:
    """What a plugin offers; it sees the data folder."""

    scale: float = 1.0

    def __call__(self, data_dir: Path | None = None) -> Data:
        return replace(tiny(), name=f"{data_dir} {self.scale:g}")


def test_a_plugins_source_gets_its_parameters_and_the_data_folder(module: ModuleType, tmp_path: Path) -> None:
    @hookimpl
    def robustkit_datasets() -> list[DatasetEntry]:
        return [DatasetEntry(name="own", target="users_data:PluginSet", summary="A set.")]

    module.robustkit_datasets = robustkit_datasets  # type: ignore[attr-defined]
    module.PluginSet = PluginSet  # type: ignore[attr-defined]
    host = Host({"users": module}, discover=False)
    assert load_data("users.own:scale=1/2", host=host, data_dir=tmp_path).name == f"{tmp_path} 0.5"
    assert load_data("own", host=host).name == "None 1"
