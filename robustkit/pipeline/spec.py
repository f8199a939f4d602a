"""What is asked: one frozen value, from the command line, a TOML file or Python, and back to TOML."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import tomli_w

from robustkit.contracts import Norm, Precision, Recipe
from robustkit.params import UsageError, parse, suggest
from robustkit.values import duration

Targets = Literal["least_likely", "random", "next"]


@dataclass(frozen=True, kw_only=True)
class BenchSpec:
    """A bench: which models, under which threat, against which attacks.

    Components are texts, "pgd:steps=50". What is None is settled by the plan: the norm and eps usual for the
    data, the device, the precision.

    Args:
        dataset: name, "npz:PATH", "imagefolder:PATH", "webdataset:SHARDS" or "package.module:factory".
        model: architecture, by name or "package.module:factory".
        checkpoint: weights of a trained model, judged instead of training one.
        pretrained: judge the model as it is built, for one that brings its weights.
        defenses: to be trained or wrapped around the baseline.
        attacks: each one a column.
        certifiers: each one a column of certified accuracy, in the norm of the threat model.
        poison: planted into the training set of every model; its success rate is measured.
        detectors: asked about every model.
        baseline: train and judge the undefended model as well.
        norm, eps: threat model; several eps make a curve. None: the data set's usual one.
        train_eps: radius that defenses train against. None: of several eps the data set's usual one where it is
            in this norm, else the largest.
        seeds: one trained model each.
        limit: judge the first samples of the test set only.
        targets: how targets are chosen for targeted attacks.
        eot: draws over which attacks that follow gradients average the logits of a model that draws random numbers.
        cascade: each attack only on what the attacks before it left standing.
        budget: seconds of attacks, spent where they lower robust accuracy most; each only on what still stands.
            Without attacks a portfolio that suits the threat model is taken. None: every attack on every sample.
        precision_points: judge test images in random order until the defenses are told apart, or the interval of their
            difference in robust accuracy is at most so many points to either side. None: all images.
        recipe: fields of the data set's training recipe to replace.
        device: "auto", "cpu", "cuda" …
        precision: of the search for adversarial examples, and of detectors that leave theirs to be measured; training
            takes the fastest.
        batch_size: samples a forward pass at most, in evaluation.
        data_dir: where data sets lie.
    """

    dataset: str = "mnist_10k"
    model: str = "cnn"
    checkpoint: str | None = None
    pretrained: bool = False
    defenses: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    certifiers: tuple[str, ...] = ()
    poison: str | None = None
    detectors: tuple[str, ...] = ()
    baseline: bool = True
    norm: Norm | None = None
    eps: tuple[float, ...] = ()
    train_eps: float | None = None
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    targets: Targets = "least_likely"
    eot: int = 1
    cascade: bool = False
    budget: float | None = None
    precision_points: float | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    data_dir: str | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit={self.limit} must be at least 1")
        if self.eot < 1:
            raise UsageError(f"eot={self.eot} must be at least 1")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch_size={self.batch_size} must be at least 1")
        if self.precision_points is not None:
            if not 0 < self.precision_points <= 100:
                raise UsageError(f"precision_points={self.precision_points:g} must be more than 0, at most 100")
            if self.budget is not None:
                raise UsageError("budget judges all images, precision_points as few as it takes; give one of the two")
            if self.certifiers:
                raise UsageError("precision_points is of attacks; certify in a bench without it")
        if self.budget is not None:
            duration(self.budget, "budget")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise UsageError(f"seeds={list(self.seeds)} must be different whole numbers from 0")
        if self.checkpoint is not None and len(self.seeds) > 1:
            raise UsageError("a checkpoint is one model; give a single seed with it")
        if self.pretrained and (self.checkpoint is not None or len(self.seeds) > 1):
            raise UsageError("a pretrained model is one model: give a single seed and no checkpoint with it")
        for name, items in (
            ("defense", self.defenses),
            ("attack", self.attacks),
            ("certifier", self.certifiers),
            ("detector", self.detectors),
        ):
            twice = sorted({item for item in items if items.count(item) > 1})
            if twice:
                raise UsageError(f"{name} {', '.join(twice)} is given twice")
        check_recipe(self.recipe)

    @classmethod
    def from_plain(cls, given: Mapping[str, Any], where: str) -> BenchSpec:
        """From plain values as TOML or the API give them.

        A component may be a text, or a table {name = "pgd", steps = 50}; a single one needs no list. `epochs` is
        short for that field of the recipe.

        Raises:
            UsageError: unknown key (with close names), or a value that doesn't fit.
        """
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        given = dict(given)
        if "epochs" in given:
            given["recipe"] = {**given.get("recipe", {}), "epochs": given.pop("epochs")}
        for key, value in given.items():
            if key not in hints:
                raise UsageError(f"{where} has no setting {key!r}{suggest(key, hints)}")
            if key in ("defenses", "attacks", "certifiers", "detectors"):
                items = [value] if isinstance(value, str | Mapping) else value
                values[key] = tuple(component_text(item, f"{where}: {key}") for item in items)
            elif key == "poison" and value is not None:
                values[key] = component_text(value, f"{where}: {key}")
            elif key == "budget" and value is not None:
                values[key] = duration(value, f"{where}: {key}")
            elif key == "recipe":
                if not isinstance(value, Mapping):
                    raise UsageError(f"{where}: recipe={value!r} must be a table of fields, e.g. {{epochs = 10}}")
                values[key] = dict(value)
            else:
                values[key] = parse(value, hints[key], f"{where}: {key}")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: Path) -> BenchSpec:
        """Read a bench file.

        Raises:
            UsageError: missing file, broken TOML (with its line), unknown key, unfit value.
        """
        try:
            with path.open("rb") as file:
                given = tomllib.load(file)
        except FileNotFoundError:
            raise UsageError(f"{path}: there is no such file") from None
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not valid TOML: {error}") from error
        given.pop("resolved", None)  # what a run wrote beside it
        return cls.from_plain(given, str(path))

    def to_plain(self) -> dict[str, Any]:
        """Plain values; what is None is left out, as TOML has no word for it."""
        plain: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            plain[item.name] = list(value) if isinstance(value, tuple) else value
        return plain


def to_toml(spec: BenchSpec, resolved: Mapping[str, Any]) -> str:
    """A file that `--config` reads again: the spec, and a table of all that was settled, for the reader."""
    return tomli_w.dumps({**spec.to_plain(), "resolved": dict(resolved)})


def component_text(item: str | Mapping[str, Any], where: str) -> str:
    """A component as text: "pgd:steps=50" from itself, or from {name = "pgd", steps = 50}."""
    if isinstance(item, str):
        return item
    if "name" not in item:
        raise UsageError(f"{where}: a table needs a key 'name': {dict(item)}")
    parts = [f"{key}={_text(value)}" for key, value in item.items() if key != "name"]
    return ":".join([str(item["name"]), *parts])


def check_recipe(given: Mapping[str, Any]) -> None:
    """Refuse fields that a recipe does not have, and values that don't fit.

    Raises:
        UsageError: naming the field, and close names.
    """
    apply_recipe(Recipe(), given)


def apply_recipe(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """`recipe` with some fields replaced; texts are parsed."""
    hints = get_type_hints(Recipe)
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in hints:
            raise UsageError(f"a training recipe has no field {key!r}{suggest(key, hints)}")
        values[key] = parse(value, hints[key], f"recipe: {key}")
    made = dataclasses.replace(recipe, **values)
    for name, low, high in _RANGES:
        number = getattr(made, name)
        if number < low or (high is not None and number > high):
            raise UsageError(
                f"recipe: {name}={number:g} must be at least {low:g}" + (f", at most {high:g}" if high else "")
            )
    return made


_RANGES: Sequence[tuple[str, float, float | None]] = (
    ("epochs", 1, None),
    ("batch_size", 1, None),
    ("lr", 1e-12, None),
    ("momentum", 0, 1),
    ("weight_decay", 0, None),
    ("ramp", 0, 1),
    ("ema", 0, 1),
    ("patience", 0, None),
    ("extra_share", 0, 1),
)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "+".join(_text(part) for part in value)
    return "none" if value is None else str(value)


TARGETS: tuple[Targets, ...] = get_args(Targets)


def asked(items: Sequence[str | Mapping[str, Any]] | str) -> list[str | Mapping[str, Any]]:
    """Texts or tables; the text "fgsm,pgd" means ["fgsm", "pgd"]."""
    if isinstance(items, str):
        return [part.strip() for part in items.split(",") if part.strip()]
    return list(items)
