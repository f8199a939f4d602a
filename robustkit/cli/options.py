"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit.cli.complete import complete
from robustkit.params import UsageError, parse_call

Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Name, npz:PATH, imagefolder:PATH, webdataset:SHARDS or package.module:factory.",
        autocompletion=complete("dataset"),
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Architecture: name or package.module:factory.", autocompletion=complete("model")),
]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", help="Weights of a trained model: .safetensors, or .pt with tensors only.")
]
Pretrained = Annotated[
    bool | None, typer.Option("--pretrained", help="Take the model as it is built, with the weights it brings.")
]
Norm = Annotated[str | None, typer.Option("--norm", help="linf, l2, l1 or l0. Default: the data set's usual one.")]
Eps = Annotated[
    str | None,
    typer.Option("--eps", help="Radius in input units of [0, 1], e.g. 8/255; several by comma make a curve."),
]
Attacks = Annotated[
    str | None,
    typer.Option("--attacks", help="By comma, with parameters: fgsm,pgd:steps=50.", autocompletion=complete("attack")),
]
Poison = Annotated[
    str | None,
    typer.Option(
        "--poison",
        help="Planted into the training set: badnets:target=0:rate=0.05.",
        autocompletion=complete("poison"),
    ),
]
Detectors = Annotated[
    str | None,
    typer.Option(
        "--detectors",
        help="By comma, asked about every model: neural_cleanse,mmbd.",
        autocompletion=complete("detector"),
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", help="Judge the first N test images only.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 …")]
Precision = Annotated[str | None, typer.Option("--precision", help="Of the search: auto, fp32, bf16 or fp16.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images a forward pass at most.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where data sets lie or are downloaded to.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training data.")]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="Fields of the training recipe: lr=0.05:schedule=step:ema=0.999.")
]
Targets = Annotated[
    str | None, typer.Option("--targets", help="For targeted attacks: least_likely, random or next class.")
]
Executor = Annotated[
    str, typer.Option("--executor", help="Where blocks are measured: local, ray or ray:ADDRESS; see docs/scale.md.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Worker processes; each takes a GPU, or a share of the cores.")
]
Eot = Annotated[
    int | None,
    typer.Option("--eot", help="Draws that gradient attacks average over, of models that draw random numbers."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


def split(text: str | None) -> list[str] | None:
    """The parts between commas; None stays None, so that a configuration file may say it.

    Raises:
        UsageError: an empty part.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{text!r} has an empty part between its commas")
    return parts


def recipe(epochs: int | None, text: str | None) -> dict[str, Any] | None:
    """The fields of a recipe to replace, from --epochs and --recipe."""
    given: dict[str, Any] = {} if text is None else dict(parse_call(f"recipe:{text}")[1])
    if epochs is not None:
        given["epochs"] = epochs
    return given or None


def settings(**given: Any) -> dict[str, Any]:
    """What was given, without what was not."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if value is not None}
