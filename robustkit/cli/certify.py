"""`robustkit certify`: certified accuracy of one or several models over a list of radii."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustkit.cli import options
from robustkit.cli.complete import complete
from robustkit.cli.progress import Progress
from robustkit.cli.session import plugin_host
from robustkit.params import UsageError


def certify(
    defense: Annotated[
        list[str] | None,
        typer.Option(
            "--defense",
            "--defenses",
            help="Trained and certified: standard,pgd_at,noise:sigma=0.25; by comma or repeated.",
            autocompletion=complete("defense"),
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option("--checkpoint", help="Weights of a trained model; may be repeated.")
    ] = None,
    certifier: Annotated[
        str,
        typer.Option(
            "--certifier",
            help="With parameters: smoothing:n=10000:alpha=0.01.",
            autocompletion=complete("certifier"),
        ),
    ] = "smoothing",
    sigma: Annotated[str | None, typer.Option("--sigma", help="Noise levels by comma: 0.25,0.5,1.0.")] = None,
    radii: Annotated[
        str | None, typer.Option("--radii", help="first:last:step as 0:2:0.25, or by comma; default 0:2:0.25.")
    ] = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="By comma; one trained model each.")] = None,
    limit: options.Limit = None,
    epochs: options.Epochs = None,
    recipe: options.RecipeOption = None,
    device: options.Device = None,
    data_dir: options.DataDir = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory of rows, table and plot; default below runs/.")
    ] = None,
    executor: options.Executor = "local",
    workers: options.Workers = None,
    quiet: options.Quiet = False,
) -> None:
    """Certify models image by image; print counts, both mean radii, and certified accuracy at radii.

    The same command goes on where it was stopped.

    Example: robustkit certify --defense standard,noise:sigma=0.5 --sigma 0.25,0.5,1.0 --radii 0:2:0.25
    """
    from robustkit.certification import certify as run
    from robustkit.certification import markdown_of

    given = options.settings(
        dataset=dataset,
        model=model,
        seeds=options.split(seeds),
        limit=limit,
        recipe=options.recipe(epochs, recipe),
        device=device,
        data_dir=data_dir,
    )
    host = plugin_host()
    with Progress(quiet) as progress:
        found = run(
            [part for item in defense or [] for part in options.split(item) or []],
            checkpoints=checkpoint or [],
            sigma=numbers(sigma, "--sigma"),
            radii=numbers(radii or "0:2:0.25", "--radii"),
            certifier=certifier,
            directory=output,
            host=host,
            listen=progress,
            executor=executor,
            workers=workers,
            **given,
        )
    typer.echo(markdown_of(found.table, found.guarantee))
    typer.echo(f"rows, table and curves: {found.directory}", err=True)


def numbers(text: str | None, where: str) -> list[float]:
    """Numbers by comma, or first:last:step.

    Raises:
        UsageError: something else, or a step that leads nowhere.
    """
    from robustkit.params import parse

    if text is None:
        return []
    if ":" not in text:
        return [parse(part, float, where) for part in options.split(text) or []]
    parts = text.split(":")
    if len(parts) != 3:
        raise UsageError(f"{where} {text!r} must be first:last:step, e.g. 0:2:0.25")
    first, last, step = (parse(part, float, where) for part in parts)
    if step <= 0 or last < first:
        raise UsageError(f"{where} {text!r}: the step must be above 0, and the last not below the first")
    return [round(first + k * step, 10) for k in range(int((last - first) / step + 1e-9) + 1)]
