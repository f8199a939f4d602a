"""Defenses, certifiers, detectors, poisons and data sources: a sound one passes, a faulty one is found."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from robustkit import testing

HEAD = """
from dataclasses import dataclass, replace
import torch
from scipy.stats import norm
from torch import nn
from robustkit.contracts import ABSTAIN, Certificate, Data, Threat, Verdict
from robustkit.data.splits import ArraySplit
from robustkit.params import param

@dataclass(frozen=True, kw_only=True)
class Thing:
    levels: int = param(3, "levels", low=1)

"""
DEFENSE = """
    def __call__(self, model, data, training):
        torch.manual_seed(training.seed)
        x, y = data.train.batch(torch.arange(len(data.train)))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for start in list(range(0, len(x), 50)) * 3:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[start : start + 50]), y[start : start + 50]).backward()
            optimizer.step()
        # BEFORE RETURN
        return model
"""
CERTIFIER = """
    def __call__(self, model, x, y):
        with torch.enable_grad():
            start = x.clone().requires_grad_()
            two = model(start).topk(2, dim=1)
            gap = two.values[:, 0] - two.values[:, 1]
            (normal,) = torch.autograd.grad(gap.sum(), start)
        radius = (gap.detach() / normal.flatten(1).norm(dim=1)).double()
        prediction = two.indices[:, 0]
        # BEFORE RETURN
        return Certificate(prediction=prediction, radius=radius, norm="l2", guarantee="exact where linear")
"""
DETECTOR = """
    def __call__(self, model, data):
        score = float(next(model.parameters()).detach().norm())
        table = ({"class": "0", "norm": score},)
        flagged = score > 10
        # BEFORE RETURN
        return Verdict(score=score, flagged=flagged, table=table)
"""
POISON = """
    def __call__(self, train, generator):
        x, y = train.batch(torch.arange(len(train)))
        chosen = torch.randperm(len(x), generator=generator)[:40]
        x[chosen] = self.trigger(x[chosen])
        y = y.clone()
        y[chosen] = 0
        # BEFORE RETURN
        return ArraySplit((x * 255).round().to(torch.uint8), y)

    def trigger(self, x):
        x = x.clone()
        x[:, :, -2:, -2:] = 1.0
        # TRIGGER
        return x
"""
DATASET = """
    def __call__(self, data_dir=None):
        images = torch.zeros(9, 1, 4, 4, dtype=torch.uint8)
        part = ArraySplit(images, torch.arange(9) % 3)
        # BEFORE RETURN
        return Data(name="thing", classes=("a", "b", "c"), shape=(1, 4, 4), threat=Threat("linf", 0.1),
                    train=part, val=part, test=part, fingerprint="1")
"""
SOUND = {
    "defense": (DEFENSE, ""),
    "certifier": (CERTIFIER, 'norms=frozenset({"l2"}), probabilistic=False'),
    "detector": (DETECTOR, 'scope="model"'),
    "poison": (POISON, ""),
    "dataset": (DATASET, ""),
}
FAULTS = [
    ("defense", "return 3", "network", "not a network"),
    ("defense", "model = nn.Sequential(model, nn.Linear(10, 4))", "network", "logits of shape"),
    ("defense", "nn.init.zeros_(model[-1].weight)", "classifies", "accuracy"),
    ("defense", "model = nn.Sequential(model, nn.Threshold(1e9, 0.0))", "gradient", "obfuscates"),
    ("defense", "torch.seed(); model[0].bias.data += 1e-4 * torch.rand(8)", "same_seed", "other weights"),
    ("defense", "data.train.images.zero_()", "data_untouched", "images were changed"),
    ("defense", "print('epoch')", "silent", "epoch"),
    ("certifier", "radius = 1.01 * radius", "l2-linear_radius", "is exact"),
    ("certifier", "radius = radius.float()", "certificate", "float64"),
    ("certifier", "prediction = torch.full_like(prediction, ABSTAIN)", "certificate", "abstains"),
    ("certifier", "prediction = prediction.int()", "certificate", "int32"),
    ("certifier", "x += 0.1", "inputs_untouched", "x was changed"),
    ("certifier", "torch.seed(); radius = radius * torch.rand(())", "same_seed", "other radii"),
    ("detector", "score = float('nan')", "verdict", "not finite"),
    ("detector", "score = torch.rand(5)", "verdict", "one score"),
    ("detector", "flagged = torch.tensor(True)", "verdict", "not a bool"),
    ("detector", "table = ({'model': model},)", "verdict", "plain values"),
    ("detector", "model.zero_grad(); next(model.parameters()).data += 1", "verdict", "changed"),
    ("detector", "torch.seed(); score = float(torch.rand(()))", "same_seed", "another score"),
    ("poison", "return train", "poisoned_set", "nothing is poisoned"),
    ("poison", "y += 10", "poisoned_set", "10 classes"),
    ("poison", "train.labels[:] = 0", "poisoned_set", "labels were changed"),
    ("poison", "torch.seed(); x[0] = torch.rand(3, 8, 8)", "same_seed", "another set"),
    ("dataset", "images = part = ArraySplit(images[:, :, :2], torch.arange(9) % 3)", "data", "images"),
    ("dataset", "part = ArraySplit(images, torch.arange(9))", "data", "3 classes"),
]


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_component_passes(kind: str, write_plugin: Callable[..., ModuleType]) -> None:
    body, facts = SOUND[kind]
    outcomes = list(testing.run(write_plugin(HEAD + body, facts, kind), kinds=[kind]))  # type: ignore[list-item]
    assert [o for o in outcomes if o.status != "passed"] == []
    assert len(outcomes) > 3


@pytest.mark.parametrize(("kind", "line", "check", "said"), FAULTS)
def test_each_fault_is_found(
    kind: str, line: str, check: str, said: str, write_plugin: Callable[..., ModuleType]
) -> None:
    body, facts = SOUND[kind]
    plugin = write_plugin(HEAD + body.replace("# BEFORE RETURN", line), facts, kind)
    found = next(c for c in testing.checks(plugin, kinds=[kind]) if c.tag == f"thing-{check}")  # type: ignore[list-item]
    with pytest.raises(AssertionError, match=said):
        found()


@pytest.mark.parametrize(("line", "said"), [("x += 1", "box"), ("x = x[:1]", "shape"), ("x = x.double()", "float64")])
def test_faults_of_a_trigger_are_found(line: str, said: str, write_plugin: Callable[..., ModuleType]) -> None:
    plugin = write_plugin(HEAD + POISON.replace("# TRIGGER", line), "", "poison")
    found = next(c for c in testing.checks(plugin, kinds=["poison"]) if c.name == "trigger")
    with pytest.raises(AssertionError, match=said):
        found()


def test_a_source_without_its_files_may_say_so(write_plugin: Callable[..., ModuleType]) -> None:
    line = "from robustkit.params import UsageError; raise UsageError('place the files in DIR')"
    plugin = write_plugin(HEAD + DATASET.replace("# BEFORE RETURN", line), "", "dataset")
    assert all(o.good for o in testing.run(plugin, kinds=["dataset"]))
