"""Recipes: the files are whole, mistakes are told, one is run from end to end, and pages name commands that exist."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn.functional import cross_entropy

from robustkit.api import load_model
from robustkit.params import UsageError

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "benchmarks" / "recipes").glob("*.toml"))
PAGES = [
    *sorted((ROOT / "docs" / "recipes").glob("*.md")),
    *sorted((ROOT / "benchmarks" / "results" / "recipes").glob("*.md")),
]
_COMMAND = re.compile(r"python benchmarks/recipe\.py ([^`\n]*)")
WHOLE = """
title = "A try"
about = "Small."

[[data]]
name = "digits"
dataset = "mnist_10k"
classes = { three = 3, eight = 8 }
images = 300
reduced = { images = 100 }

[[train]]
name = "plain"
defense = "standard"
recipe = { epochs = 2, ramp = 0.0 }

[[train]]
name = "again {epochs}"
defense = "standard"
start = "plain"
grid = { epochs = [1] }

[[attack]]
norm = "linf"
eps = ["0.1"]
attacks = ["fgsm"]
figures = ["accuracies"]
limit = 40

[[certify]]
on = ["plain"]
sigma = [0.1]
certifier = "smoothing:n=100"
radii = [0.05]
limit = 5

[[study]]
name = "linear"
reduced = false
"""


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("recipe")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("reduced", [False, True], ids=["full", "reduced"])
def test_every_recipe_is_whole(recipe: ModuleType, path: Path, reduced: bool) -> None:
    """Its parts are known, its components, data sets and studies exist and take what they are given."""
    from robustkit import studies
    from robustkit.host import default_host
    from robustkit.pipeline.spec import BenchSpec

    host = default_host()
    read = recipe.read(path, reduced)
    for given in read.get("data", ()):
        host.find("dataset", given["dataset"])
    for step in read.get("train", ()):
        host.build("defense", step["defense"])
        host.build("model", step.get("model", read.get("model", "cnn")))
        BenchSpec.from_plain(
            {name: step[name] for name in ("norm", "eps", "recipe", "poison") if name in step}, "train"
        )
    for part in ("bench", "attack", "certify", "scan"):
        for step in read.get(part, ()):
            left_out = {"sigma", "certifier", "radii", "detector", "title", "text", "on", "data", "figures"}
            spec = BenchSpec.from_plain({name: value for name, value in step.items() if name not in left_out}, part)
            for kind, texts in (("attack", spec.attacks), ("defense", spec.defenses), ("certifier", spec.certifiers)):
                for text in texts:
                    host.build(kind, text)
            for kind in ("certifier", "detector"):
                if kind in step:
                    host.build(kind, step[kind])
    assert {step["name"] for step in read.get("study", ())} <= set(studies.STUDIES)
    assert read.get("data", ())


def test_every_recipe_has_a_page() -> None:
    assert RECIPES
    pages = {page.stem for page in PAGES if page.parent.name == "recipes" and page.parts[-3] == "docs"}
    assert {path.stem for path in RECIPES} == pages - {"index"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[[attack]]", "[[atack]]", "'atack' is no part of a recipe; did you mean attack"),
        ('title = "A try"', "", "lacks title"),
        ('norm = "linf"\n', "", r"\[\[attack\]\] lacks norm"),
        ('on = ["plain"]', 'on = ["plan"]', r"no \[\[train\]\] is called 'plan'; did you mean plain"),
        ('start = "plain"', 'data = "digit"', r"no \[\[data\]\] is called 'digit'; did you mean digits"),
        ('title = "A try"', 'title = "A try', "not valid TOML"),
        ('[[study]]\nname = "linear"\nreduced = false', "[study]", r"study must be tables, \[\[study\]\]"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    recipe: ModuleType, tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in WHOLE
    path = tmp_path / "wrong.toml"
    path.write_text(WHOLE.replace(old, new))
    with pytest.raises(UsageError, match=words):
        recipe.read(path, reduced=False)


def test_an_unknown_recipe_is_refused_with_a_close_name(recipe: ModuleType) -> None:
    with pytest.raises(UsageError, match="no recipe 'leader_board'; did you mean leaderboard"):
        recipe.read(ROOT / "benchmarks" / "recipes" / "leader_board.toml", reduced=False)


def test_reduced_values_replace_those_beside_them(recipe: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text(WHOLE)
    full, small = recipe.read(path, reduced=False), recipe.read(path, reduced=True)
    assert (full["data"][0]["images"], small["data"][0]["images"]) == (300, 100)
    assert (len(full["study"]), len(small["study"])) == (1, 0)
    assert [step["name"] for step in full["train"]] == ["plain", "again 1"]
    assert "grid" not in full["train"][1]


def test_a_part_of_a_data_set_has_its_classes_and_labels(recipe: ModuleType) -> None:
    from robustkit.data.load import load_data
    from robustkit.host import default_host

    images = importlib.import_module("recipe_data")
    known = {"name": "digits", "classes": {"eight": 8, "three": 3}, "images": 50, "recipe": {"epochs": 3}}
    part = images.define(known, "mnist_10k", None)
    whole = load_data("mnist_10k", host=default_host())
    rows = torch.isin(whole.test.labels, torch.tensor([3, 8])).nonzero().flatten()
    x, y = part.test.batch(torch.arange(len(part.test)))
    wanted, labels = whole.test.batch(rows)
    assert torch.equal(x, wanted)
    assert torch.equal(y == 0, labels == 8)
    assert (part.classes, len(part.train), part.recipe.epochs) == (("eight", "three"), 50, 3)
    assert part.fingerprint != whole.fingerprint
    assert load_data("recipe_data:digits", host=default_host()).fingerprint == part.fingerprint


def test_a_small_recipe_runs_from_end_to_end_and_goes_on(recipe: ModuleType, tmp_path: Path) -> None:
    path, work, page = tmp_path / "try.toml", tmp_path / "work", tmp_path / "results" / "try.md"
    path.write_text(WHOLE.replace("reduced = false", ""))
    words = [str(path), "--reduced", "--work", str(work), "-o", str(page)]
    assert recipe.main(words) == page
    said = page.read_text()
    assert "**Reduced size**" in said
    assert "100 training" in said
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", said):
        assert (page.parent / picture).read_text().startswith("<?xml")
    assert said.count("![") == 3  # accuracies, certified curves, the study's figure

    # accuracies as counted here, from the weights that were kept
    images = importlib.import_module("recipe_data").digits()
    x, y = images.test.batch(torch.arange(40))
    model = load_model(work / "models" / "plain.safetensors")
    x.requires_grad_()
    cross_entropy(model(x), y, reduction="sum").backward()
    assert x.grad is not None
    moved = (x + 0.1 * x.grad.sign()).clamp(0, 1).detach()
    clean = model(x).argmax(1) == y
    robust = clean & (model(moved).argmax(1) == y)
    (row,) = [line for line in said.splitlines() if line.startswith("| plain") and "[" in line and "0.1 |" not in line]
    shown = [float(cell.split("[")[0]) for cell in row.split("|")[2:4]]
    assert shown == pytest.approx([100 * float(hits.float().mean()) for hits in (clean, robust)], abs=2.6)

    records = work / "attack1" / "plain" / "records.jsonl"
    before = {file: file.stat().st_mtime_ns for file in (records, *work.glob("certify1/*/rows/*.csv"))}
    seconds = json.loads((work / "models" / "plain.json").read_text())["training_seconds"]
    assert len(before) == 2
    recipe.main(words)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert json.loads((work / "models" / "plain.json").read_text())["training_seconds"] == seconds


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_pages_name_recipes_and_options_that_exist(recipe: ModuleType, page: Path) -> None:
    for line in _COMMAND.findall(page.read_text(encoding="utf-8")):
        given = recipe.arguments([word for word in shlex.split(line) if word != "NAME"] or ["three_trainings"])
        assert given.name in {path.stem for path in RECIPES}
