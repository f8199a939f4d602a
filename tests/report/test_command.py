from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from robustkit.cli.app import app
from robustkit.contracts import Recipe
from robustkit.pipeline.spec import BenchSpec, apply_recipe, to_toml
from robustkit.report.command import command_line


@pytest.mark.parametrize(
    "settings",
    [
        {"attacks": ("fgsm",)},
        {
            "defenses": ("pgd_at:steps=5", "fgsm_at"),
            "attacks": ("pgd:steps=3:loss=cw", "square:queries=10"),
            "eps": (8 / 255, 0.1),
            "seeds": (0, 3),
            "limit": 7,
            "recipe": {"epochs": 2, "lr": 0.05, "augment": "none"},
            "precision": "fp32",
            "baseline": False,
            "train_eps": 1 / 3,
            "model": "linear",
        },
        {"attacks": ("fgsm",), "poison": "badnets:target=2", "detectors": ("mahalanobis", "strip:overlays=9")},
        {"certifiers": ("interval",), "eot": 3, "pretrained": True, "defenses": ("quantise",)},
        {"attacks": ("fgsm",), "norm": "l2", "eps": (2.0,), "cascade": True, "batch_size": 50, "targets": "next"},
    ],
)
def test_the_command_asks_for_the_same(settings: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    spec = BenchSpec(**settings)
    (tmp_path / "spec.toml").write_text(to_toml(spec, {}))
    words = shlex.split(command_line(tmp_path) or "")
    assert words[:2] == ["robustkit", "bench"]
    asked = {}

    def make_plan(found: BenchSpec, host: object) -> None:
        asked["spec"] = found
        raise KeyboardInterrupt

    monkeypatch.setattr("robustkit.pipeline.plan.make_plan", make_plan)
    CliRunner().invoke(app, words[1:])
    found = asked["spec"]
    assert dataclasses.replace(found, recipe={}) == dataclasses.replace(spec, recipe={})
    assert apply_recipe(Recipe(), found.recipe) == apply_recipe(Recipe(), spec.recipe)


def test_what_options_cannot_say_is_read_from_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "spec.toml").write_text(to_toml(BenchSpec(attacks=("mine:of=1,2",)), {}))
    assert shlex.split(command_line(folder) or "") == ["robustkit", "bench", "--config", str(folder / "spec.toml")]


def test_without_a_spec_there_is_no_command(tmp_path: Path) -> None:
    assert command_line(tmp_path) is None
