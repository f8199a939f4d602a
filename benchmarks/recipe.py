"""Runs a recipe: what others did by hand, from training to certificates, from one file.

    python benchmarks/recipe.py three_trainings [--reduced] [--data-dir FOLDER] [--source NAME=DATASET]
        [--work FOLDER] [-o FILE]

A recipe, `benchmarks/recipes/NAME.toml`, names images ([[data]]), an architecture, networks that are trained
([[train]]), and what is asked of them: attacks ([[attack]]), certificates ([[certify]]), backdoors ([[scan]]); or a
whole bench ([[bench]]), or a study ([[study]]). Values of a table `reduced`, at the top or in a part, replace those
beside it with --reduced, a size for a laptop; a part with reduced = false is left out then. `grid` makes a part of each
combination of its values.

Networks, records and rows are kept in --work: a second call goes on there. Writes
benchmarks/results/recipes/NAME.md and its figures.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import recipe_data
import recipe_parts
from machine import stated
from recipe_page import READING, Place, Trained

from robustkit.contracts import Data
from robustkit.params import UsageError, suggest

HERE = Path(__file__).parent
RECIPES = HERE / "recipes"
WORDS = {"title", "about", "model"}
STEPS: dict[str, frozenset[str]] = {
    "data": frozenset({"name", "dataset"}),
    "train": frozenset({"name", "defense"}),
    "bench": frozenset({"defenses", "attacks"}),
    "attack": frozenset({"attacks", "norm", "eps"}),
    "certify": frozenset({"sigma"}),
    "scan": frozenset({"detector", "poison"}),
    "study": frozenset({"name"}),
}
"""The parts, and what each cannot do without."""
HEADS = {
    "bench": "Trained, attacked, certified",
    "attack": "Under attack",
    "certify": "Certified",
    "scan": "Backdoors",
    "study": "Study",
}


def read(path: Path, reduced: bool) -> dict[str, Any]:
    """A recipe, in its full or in its reduced size.

    Raises:
        UsageError: no such file, broken TOML, unknown or incomplete parts, names that nothing has.
    """
    if not path.is_file():
        known = [file.stem for file in RECIPES.glob("*.toml")]
        raise UsageError(f"there is no recipe {path.stem!r}{suggest(path.stem, known)}")
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    recipe = _settled(whole, reduced)
    for part, value in recipe.items():
        if part not in WORDS | set(STEPS):
            raise UsageError(f"{path.name}: {part!r} is no part of a recipe{suggest(part, WORDS | set(STEPS))}")
        if part in WORDS:
            continue
        if not isinstance(value, list):
            raise UsageError(f"{path.name}: {part} must be tables, [[{part}]]")
        kept = [_settled(step, reduced) for step in value if not (reduced and step.get("reduced") is False)]
        recipe[part] = [each for step in kept for each in _spread(step)]
        for step in recipe[part]:
            missing = sorted(STEPS[part] - set(step))
            if missing:
                which = " ".join([f"[[{part}]]", *([step["name"]] if "name" in step else [])])
                raise UsageError(f"{path.name}: {which} lacks {', '.join(missing)}")
    _check_names(recipe, path.name)
    return recipe


def _settled(table: Mapping[str, Any], reduced: bool) -> dict[str, Any]:
    given = {name: value for name, value in table.items() if name != "reduced"}
    return {**given, **table["reduced"]} if reduced and table.get("reduced") else given


def _spread(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A part for each combination of the values of its `grid`, whose names in braces stand in its texts."""
    grid: Mapping[str, list[Any]] = step.get("grid", {})
    plain = {name: value for name, value in step.items() if name != "grid"}
    chosen = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [
        {name: value.format(**one) if grid and isinstance(value, str) else value for name, value in plain.items()}
        for one in chosen
    ]


def _check_names(recipe: Mapping[str, Any], where: str) -> None:
    for part in ("title", "about"):
        if part not in recipe:
            raise UsageError(f"{where} lacks {part}")
    data = [given["name"] for given in recipe.get("data", ())]
    trained = [step["name"] for step in recipe.get("train", ())]
    for step in (step for part in STEPS for step in recipe.get(part, ())):
        if "data" in step and step["data"] not in data:
            raise UsageError(f"{where}: no [[data]] is called {step['data']!r}{suggest(step['data'], data)}")
        for name in (*step.get("on", ()), *([step["start"]] if "start" in step else ())):
            if name not in trained:
                raise UsageError(f"{where}: no [[train]] is called {name!r}{suggest(name, trained)}")


def run(
    recipe: Mapping[str, Any], head: Sequence[str], sources: Mapping[str, str], data_dir: Path | None, place: Place
) -> Path:
    """Everything a recipe asks, written after each part; returns the page."""
    target = place.results / f"{place.stem}.md"
    out = [f"# {recipe['title']}\n", *head, recipe["about"].strip() + "\n", READING]
    known = {
        given["name"]: recipe_data.define(given, sources.get(given["name"], given["dataset"]), data_dir)
        for given in recipe.get("data", ())
    }
    first, model = next(iter(known), ""), recipe.get("model", "cnn")
    out.append(_images(known))
    trained: list[Trained] = []
    for step in recipe.get("train", ()):
        _tell(f"training {step['name']}")
        trained.append(recipe_parts.train(step, step.get("data", first), model, place, trained))
    if trained:
        out.append("## Trainings\n\n" + recipe_parts.trainings(recipe["train"], trained))
    for part, head_of in HEADS.items():
        for number, step in enumerate(recipe.get(part, ()), start=1):
            name, of = f"{part}{number}", step.get("data", first)
            on = [one for one in trained if one.name in step.get("on", [t.name for t in trained if t.data == of])]
            _tell(f"{part} {number} of {len(recipe[part])}")
            if part in ("attack", "certify", "scan"):
                said = getattr(recipe_parts, part)(step, on, place, name)
            else:
                said = getattr(recipe_parts, part)(step, of, model, place, name)
            out.append(
                f"## {step.get('title', head_of)}\n\n" + "\n\n".join(filter(None, [step.get("text", "").strip(), said]))
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(out), encoding="utf-8")
    return target


def _images(known: Mapping[str, Data]) -> str:
    said = [
        f"- {name}: {len(data.train):,} training, {len(data.val):,} validation and {len(data.test):,} test images of "
        f"{'×'.join(map(str, data.shape))}, classes {', '.join(data.classes)}"
        for name, data in known.items()
    ]
    return "\n".join([*said, ""])


def _tell(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of a file in benchmarks/recipes, or its path")
    parser.add_argument("--reduced", action="store_true", help="the size for a laptop")
    parser.add_argument("--data-dir", type=Path, help="where data sets lie")
    parser.add_argument(
        "--source", action="append", default=[], help="NAME=DATASET: other images for a [[data]], as cifar10=npz:FILE"
    )
    parser.add_argument("--work", type=Path, help="what is kept; default runs/recipes/NAME")
    parser.add_argument("-o", "--output", type=Path, help="the page; default benchmarks/results/recipes/NAME.md")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> Path:
    given = arguments(words)
    path = Path(given.name) if given.name.endswith(".toml") else RECIPES / f"{given.name}.toml"
    recipe = read(path, given.reduced)
    size = " --reduced" if given.reduced else ""
    head = [
        f"{stated()} Repeat with `python benchmarks/recipe.py {path.stem}{size}`.\n",
        "**Reduced size**; without `--reduced` the recipe is run in full.\n" if given.reduced else "",
    ]
    sources = dict(text.partition("=")[::2] for text in given.source)
    output = given.output or HERE / "results" / "recipes" / f"{path.stem}.md"
    work = given.work or Path("runs") / "recipes" / f"{path.stem}{'-reduced' if given.reduced else ''}"
    place = Place(work, output.parent, output.stem)
    return run(recipe, [line for line in head if line], sources, given.data_dir, place)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
