"""`robustkit attack`: adversarial images of one model, as arrays and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    quiet: options.Quiet = False,
) -> None:
    """Write adversarial images: x, x_adv, labels, predictions, distances (npz), and a picture of ten of them.

    Example: robustkit attack pgd --defense pgd_at --limit 50 -o adversarial.npz
    """
    import io

    import numpy as np
    import torch

    from robustkit.engine.evaluate import Arena
    from robustkit.pipeline.cells import BLOCK
    from robustkit.pipeline.events import TrainingStep
    from robustkit.pipeline.keys import seed_of
    from robustkit.pipeline.plan import make_plan
    from robustkit.pipeline.spec import BenchSpec
    from robustkit.pipeline.store import ModelCache, write_atomically
    from robustkit.pipeline.subjects import build_subject
    from robustkit.pipeline.surrogates import Surrogates
    from robustkit.precision import choose_precision
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
    subject, cell = plan.subjects[-1], plan.cells[-1]
    assert cell.attack is not None
    with Progress(quiet) as progress:
        built = build_subject(
            subject, plan, host, ModelCache(), None, report=lambda step: progress(TrainingStep(subject, step))
        )
        attack = Surrogates(plan, host, ModelCache(), None, progress).ready(cell).attack
        assert attack is not None
    example = plan.data.test.batch(torch.arange(min(64, plan.count)))[0].to(plan.device)
    settled = choose_precision(built.model, example, plan.spec.precision)
    arena = Arena(built.model, settled, plan.spec.batch_size, example, eot=plan.spec.eot)
    parts = []
    for block in range(plan.blocks):
        rows = torch.arange(block * BLOCK, min((block + 1) * BLOCK, plan.count))
        x, y = (part.to(plan.device) for part in plan.data.test.batch(rows))
        parts.append((x, y, arena.attack(attack, x, y, cell.threat, seed=seed_of(cell.stream, block))))
    x = torch.cat([part[0] for part in parts]).cpu()
    y = torch.cat([part[1] for part in parts]).cpu()
    joined = {
        field: torch.cat([getattr(result, field) for _, _, result in parts]).cpu()
        for field in ("x_adv", "clean_pred", "adv_pred", "success", "attacked", f"dist_{cell.threat.norm}")
    }
    content = io.BytesIO()
    arrays: dict[str, Any] = {"x": x.numpy(), "y": y.numpy(), **{key: value.numpy() for key, value in joined.items()}}
    np.savez_compressed(content, **arrays)
    write_atomically(output, content.getvalue())
    shown = joined["attacked"].nonzero().squeeze(1)[:10]
    picture = output.with_suffix(".png")
    if len(shown):
        picture_grid(
            x[shown],
            joined["x_adv"][shown],
            y[shown],
            joined["clean_pred"][shown],
            joined["adv_pred"][shown],
            plan.data.classes,
            picture,
        )
    attacked, fell = int(joined["attacked"].sum()), int(joined["success"].sum())
    words = f"{cell.attack.label} on {subject.label}, {cell.threat}"
    typer.echo(f"{words}: {fell} of {attacked} inputs that were right fell", err=True)
    typer.echo(str(output))
    if len(shown):
        typer.echo(str(picture))
