"""What certifiers return is checked, and added up."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Certificate, Norm
from robustkit.engine.certify import certify_block, summary
from robustkit.engine.verdict import CellError
from robustkit.hookspecs import CertifierEntry, hookimpl
from robustkit.host import Component, Host
from robustkit.params import param


@dataclass(frozen=True, kw_only=True)
class Says:
    radius: float = param(0.1, "of every input")
    prediction: int = param(0, "of every input")
    norm: Norm = param("linf", "of the radius")
    missing: int = param(0, "radii too few")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
        model.train()
        radius = torch.full((len(x) - self.missing,), self.radius, dtype=torch.float64)
        return Certificate(
            prediction=torch.full((len(x),), self.prediction), radius=radius, norm=self.norm, guarantee="None."
        )


def component(text: str) -> Component:
    module = types.ModuleType("says_plugin")

    @hookimpl
    def robustkit_certifiers() -> Iterator[CertifierEntry]:
        yield CertifierEntry(name="says", target=f"{__name__}:Says", summary="test", norms=frozenset({"linf"}))

    module.robustkit_certifiers = robustkit_certifiers  # type: ignore[attr-defined]
    return Host(plugins={"own": module}, discover=False).build("certifier", text)


def test_rows_and_what_was_restored() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    x, y = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    found = certify_block(model, component("own.says"), x, y, torch.arange(5, 8), "linf", seed=0)
    assert found.columns["index"].tolist() == [5, 6, 7]
    assert found.columns["radius"].tolist() == [0.1] * 3
    assert found.restored == ("training flags",)
    assert not model.training


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (":radius=-0.5", "negative"),
        (":prediction=-1", "abstained"),
        (":norm=l2", "certifies in l2, asked for was linf"),
        (":missing=1", "radius of shape"),
    ],
)
def test_what_is_no_certificate_is_refused(parameters: str, said: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(CellError, match=said):
        certify_block(
            model,
            component("own.says" + parameters),
            torch.rand(3, 1, 2, 2),
            torch.zeros(3),
            torch.arange(3),
            "linf",
            0,
        )


def test_both_means_are_named() -> None:
    """Radii 0.4 and 0.2 are certified, 0.9 is of a wrong class, one abstains."""
    columns = {
        "label": np.array([0, 1, 2, 3]),
        "prediction": np.array([0, 1, 0, -1]),
        "radius": np.array([0.4, 0.2, 0.9, 0.0]),
        "passes": np.array([10, 20, 30, 40]),
    }
    found = summary(columns, (0.0, 0.3))
    assert (found["certified"], found["wrong"], found["abstained"]) == (2, 1, 1)
    assert found["average_radius"] == pytest.approx(0.15)
    assert found["mean_radius_certified"] == pytest.approx(0.3)
    assert found["certified_accuracy@0"] == 0.5
    assert found["certified_accuracy@0.3"] == 0.25
    assert found["mean_passes"] == 25


def test_nothing_certified() -> None:
    found = summary({"label": np.array([0]), "prediction": np.array([-1]), "radius": np.array([0.0])}, ())
    assert found["mean_radius_certified"] is None
