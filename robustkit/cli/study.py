"""`robustkit study`: a question of a course or a paper, with figure, table and text."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit.cli import options
from robustkit.params import UsageError, suggest
from robustkit.studies import STUDIES


def study(
    name: Annotated[str, typer.Argument(help=f"{', '.join(STUDIES)}.")],
    dataset: options.Dataset = None,
    model: options.Model = None,
    epochs: options.Epochs = None,
    limit: options.Limit = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of data, weights and attacks.")] = None,
    pretrained: options.Pretrained = None,
    data_dir: options.DataDir = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default studies/NAME.", show_default=False)
    ] = None,
) -> None:
    """Write study.md, tables/ and figures/, and print the text.

    Example: robustkit study linear -o studies/linear
    """
    if name not in STUDIES:
        raise UsageError(f"there is no study {name!r}{suggest(name, STUDIES)}")
    given = options.settings(
        dataset=dataset,
        model=model,
        epochs=epochs,
        limit=limit,
        seed=seed,
        pretrained=pretrained,
        data_dir=data_dir,
    )
    import robustkit.studies

    function: Any = getattr(robustkit.studies, name)
    known = inspect.signature(function).parameters
    for key in given:
        if key not in known:
            raise UsageError(f"the study {name} has no --{key.replace('_', '-')}; it takes {', '.join(known)}")
    result = function(**given)
    page = result.write(output or Path("studies") / name)
    typer.echo(str(result), nl=False)
    typer.echo(f"written: {page}", err=True)
