"""Runs a recipe: what others did by hand, from training to certificates, from one file.

    python benchmarks/recipe.py three_trainings [--data-dir FOLDER] [--work FOLDER] [-o FILE]

A recipe, `benchmarks/recipes/NAME.toml`, names a data set and a network, the trainings ([[train]]), the attacks on each
of them ([[attack]]) and the noise they are certified with ([[certify]]). Trainings and certificates are kept in --work:
a second call goes on there. Writes benchmarks/results/recipes/NAME.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pandas as pd
import torch
from machine import stated
from torch import nn

import robustkit
from robustkit.data.load import load_data
from robustkit.host import default_host
from robustkit.params import UsageError
from robustkit.report.files import markdown
from robustkit.report.format import interval

HERE = Path(__file__).parent
PARTS = {"title", "about", "dataset", "model", "train", "attack", "certify"}


def read(name: str) -> dict[str, Any]:
    path = HERE / "recipes" / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.toml")))
        raise UsageError(f"recipe {name!r}: no such recipe; there are {known}")
    recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    if set(recipe) - PARTS:
        raise UsageError(f"{path.name}: {sorted(set(recipe) - PARTS)} are no parts of a recipe")
    return recipe


def train(step: Mapping[str, Any], common: Mapping[str, Any], work: Path) -> tuple[nn.Module, Path, float]:
    """The model, its weights and the seconds of its training; from the cache where it is known."""
    settings = {name: value for name, value in step.items() if name not in ("name", "defense")}
    folder = work / step["name"]
    began = time.perf_counter()
    model = robustkit.train(step["defense"], directory=folder, **common, **settings)
    seconds = time.perf_counter() - began
    (weights,) = (folder / "models").glob("*.safetensors")
    return model, weights, seconds


def attack(step: Mapping[str, Any], models: Mapping[str, nn.Module], data: Any) -> str:
    """A table with a row a training."""
    count = min(int(step["limit"]), len(data.test))
    x, y = data.test.batch(torch.arange(count))
    rows = []
    for name, model in models.items():
        found = robustkit.evaluate(model, (x, y), step["attacks"], (step["norm"], step["eps"])).table.iloc[0]
        row = {"training": name}
        for column in ("clean", *step["attacks"], "worst case"):
            row[column] = interval(found[column], found[f"{column} low"], found[f"{column} high"])
        rows.append({**row, "flags": found["flags"] or "–"})
        sys.stderr.write(f"{step['norm']} {step['eps']:g} {name}\n")
    return f"### {step['norm']} ε = {step['eps']:g}, the first {count:,} test images\n\n{markdown(pd.DataFrame(rows))}"


def certify(step: Mapping[str, Any], weights: Mapping[str, Path], common: Mapping[str, Any], work: Path) -> str:
    """Certified counts and both means, as robustkit.certify tells them."""
    settings = {name: value for name, value in step.items() if name != "sigma"}
    rows = []
    for name, path in weights.items():
        folder = work / f"certify-{name}"
        found = robustkit.certify(checkpoints=[path], sigma=step["sigma"], directory=folder, **common, **settings)
        for row in found.table.to_dict("records"):
            rows.append({"training": name, **{key: value for key, value in row.items() if key not in _LEFT_OUT}})
        sys.stderr.write(f"certified {name}\n")
    return markdown(pd.DataFrame(rows).map(lambda cell: f"{cell:.3g}" if isinstance(cell, float) else str(cell)))


_LEFT_OUT = ("model", "defense", "seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    recipe = read(given.name)
    work = given.work or Path("runs") / "recipes" / given.name
    common = {"dataset": recipe["dataset"], "model": recipe["model"]}
    if given.data_dir is not None:
        common["data_dir"] = str(given.data_dir)
    data = load_data(recipe["dataset"], host=default_host(), data_dir=given.data_dir)
    out = [
        f"# {recipe['title']}\n",
        f"{stated()} Repeat with `python benchmarks/recipe.py {given.name}`.\n",
        recipe["about"].strip() + "\n",
        "## Trainings\n",
        "| name | defense | settings | seconds |\n|---|---|---|---:|",
    ]
    models: dict[str, nn.Module] = {}
    weights: dict[str, Path] = {}
    for step in recipe["train"]:
        models[step["name"]], weights[step["name"]], seconds = train(step, common, work)
        said = ", ".join(f"{key}={value}" for key, value in step.items() if key not in ("name", "defense"))
        out.append(f"| {step['name']} | `{step['defense']}` | {said or 'as usual'} | {seconds:.0f} |")
    target = given.output or HERE / "results" / "recipes" / f"{given.name}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    out.append("\n## Under attack\n")
    for step in recipe.get("attack", ()):
        out.append(attack(step, models, data))
        target.write_text("\n".join(out), encoding="utf-8")
    for step in recipe.get("certify", ()):
        out.append(f"## Certified with noise, the first {step['limit']:,} test images\n")
        out.append(certify(step, weights, common, work))
        target.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
