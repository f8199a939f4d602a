"""`robustkit attack`: adversarial images of one model, as arrays and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustkit.cli import options
from robustkit.cli.complete import complete
from robustkit.cli.progress import Progress
from robustkit.cli.session import plugin_host


def attack(
    name: Annotated[str, typer.Argument(help="With parameters: pgd:steps=50.", autocompletion=complete("attack"))],
    defense: Annotated[
        str, typer.Option("--defense", help="Of the model that is attacked.", autocompletion=complete("defense"))
    ] = "standard",
    dataset: options.Dataset = None,
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    pretrained: options.Pretrained = None,
    norm: options.Norm = None,
    eps: options.Eps = None,
    limit: Annotated[int, typer.Option("--limit", help="Attack the first N test images.")] = 100,
    epochs: options.Epochs = None,
    targets: options.Targets = None,
    eot: options.Eot = None,
    device: options.Device = None,
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    data_dir: options.DataDir = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The npz file; the picture gets the same name with .png.")
    ] = Path("adversarial.npz"),
    executor: options.Executor = "local",
    workers: options.Workers = None,
    quiet: options.Quiet = False,
) -> None:
    """Write adversarial images: x, x_adv, labels, predictions, distances (npz), and a picture of ten of them.

    Example: robustkit attack pgd --defense pgd_at --limit 50 -o adversarial.npz
    """
    import torch

    from robustkit.executors.choose import executor_of
    from robustkit.files import as_npz, write_atomically
    from robustkit.pipeline.images import adversarial_images
    from robustkit.pipeline.plan import make_plan
    from robustkit.pipeline.spec import BenchSpec
    from robustkit.report.grid import picture_grid

    given = options.settings(
        attacks=[name],
        defenses=[] if checkpoint or pretrained else [defense],
        baseline=False,
        dataset=dataset,
        model=model,
        checkpoint=checkpoint,
        pretrained=pretrained,
        norm=norm,
        eps=options.split(eps),
        limit=limit,
        recipe=options.recipe(epochs, None),
        targets=targets,
        eot=eot,
        device=device,
        precision=precision,
        batch_size=batch_size,
        data_dir=data_dir,
    )
    host = plugin_host()
    plan = make_plan(BenchSpec.from_plain(given, "attack"), host)
    chosen = executor_of(executor, workers, plan.device.startswith("cuda"))
    with Progress(quiet) as progress:
        arrays = dict(adversarial_images(plan, host, progress, chosen))
    write_atomically(output, as_npz(arrays, compressed=True))
    shown = arrays["attacked"].nonzero()[0][:10]
    picture = output.with_suffix(".png")
    if len(shown):
        x, x_adv, y, before, after = (
            torch.from_numpy(arrays[name][shown]) for name in ("x", "x_adv", "y", "clean_pred", "adv_pred")
        )
        picture_grid(x, x_adv, y, before, after, plan.data.classes, picture)
    cell = plan.cells[-1]
    attacked, fell = int(arrays["attacked"].sum()), int(arrays["success"].sum())
    words = f"{cell.label} on {cell.subject.label}, {cell.threat}"
    typer.echo(f"{words}: {fell} of {attacked} inputs that were right fell", err=True)
    typer.echo(str(output))
    if len(shown):
        typer.echo(str(picture))
