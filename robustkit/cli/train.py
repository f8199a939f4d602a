"""`robustkit train`: one defense, trained; its weights and how they came about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit.cli import options
from robustkit.cli.complete import complete
from robustkit.cli.progress import Progress
from robustkit.cli.session import plugin_host
from robustkit.files import write_atomically
from robustkit.params import UsageError


def train(
    defense: Annotated[
        str, typer.Option("--defense", help="With parameters: pgd_at:steps=10.", autocompletion=complete("defense"))
    ],
    poison: options.Poison = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    norm: options.Norm = None,
    eps: options.Eps = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, batches and inner attacks.")] = 0,
    epochs: options.Epochs = None,
    recipe: options.RecipeOption = None,
    device: options.Device = None,
    data_dir: options.DataDir = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Directory for weights, provenance, TensorBoard events, training.csv and its plot."
        ),
    ] = Path("trained"),
    executor: Annotated[
        str, typer.Option("--executor", help="local, or through Ray Train: ray or ray:ADDRESS; see docs/scale.md.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes on Ray that share each batch. Default: one a GPU or core."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from the checkpoint of a training that was stopped.")
    ] = True,
    quiet: options.Quiet = False,
) -> None:
    """Train a model; a training that was killed goes on from its last epoch and ends in the same weights.

    Loss, clean and robust accuracy on validation data are shown while it trains, written to training.csv after each
    epoch, and drawn at the end: training.svg and training.png show from which epoch on robustness is lost again.

    Several GPUs: torchrun --nproc-per-node 4 -m robustkit train --defense pgd_at; the batch is shared among them. On a
    Ray cluster: --executor ray:ADDRESS.

    Example: robustkit train --defense free_at:replays=4 -o trained
    """
    from robustkit.contracts import TrainingProgress
    from robustkit.data.remote import refuse_url
    from robustkit.models.weights import save_weights
    from robustkit.pipeline.events import TrainingStep
    from robustkit.pipeline.plan import make_plan
    from robustkit.pipeline.spec import BenchSpec
    from robustkit.pipeline.store import ModelCache
    from robustkit.pipeline.subjects import build_subject, file_name
    from robustkit.report.training_curves import copy_history, draw_curves
    from robustkit.training.team import team

    refuse_url(output)
    given = options.settings(
        defenses=[defense],
        baseline=False,
        poison=poison,
        dataset=dataset,
        model=model,
        norm=norm,
        eps=options.split(eps),
        seeds=[seed],
        recipe=options.recipe(epochs, recipe),
        device=device,
        data_dir=data_dir,
    )
    host = plugin_host()
    plan = make_plan(BenchSpec.from_plain(given, "train"), host)
    subject = plan.subjects[-1]
    cache = ModelCache()
    if not resume and team(plan.device).first:
        cache.forget(subject.key)
    if executor != "local" or workers is not None:
        _on_ray(executor, workers, {**given, "defense": defense, "seed": seed}, cache.directory, plan.device)
    folder = cache.training(subject.key)
    first = team(plan.device).first  # of the processes that torchrun started; the others only help
    with Progress(quiet or not first) as progress:

        def report(step: TrainingProgress) -> None:
            if "validation accuracy" in step.metrics:  # an epoch is done
                copy_history(folder, output)
            progress(TrainingStep(subject, step))

        built = build_subject(subject, plan, host, cache, output, report=report)
    if not first:
        return
    path = output / "models" / f"{file_name(subject.label)}-seed{seed}.safetensors"
    if not path.is_file():
        save_weights(built.model, path)
    if copy_history(folder, output):
        title = f"{subject.label}, {plan.data.name}, {plan.training_threat}, seed {subject.seed}"
        for suffix in ("svg", "png"):
            draw_curves(output / "training.csv", output / f"training.{suffix}", title)
    if plan.planted is not None:
        import json

        from robustkit.pipeline.detect import success_of

        found = success_of(built.model, plan.planted, plan.count, plan.device)
        about = {**plan.planted.manifest, **found, "weights": built.about["weights"]}
        write_atomically(path.with_suffix(".manifest.json"), json.dumps(about, indent=2).encode())
        typer.echo(
            f"trigger: {100 * found['asr']['value']:.1f} % of {found['asr']['n']} test images of other classes become "
            f"what the attacker wants, {100 * found['ra']['value']:.1f} % are still right",
            err=True,
        )
    from robustkit.training.loop import accuracy

    share = accuracy(built.model, plan.data.val, plan.device)
    origin = "from the cache" if built.cached else f"trained in {built.about['training_seconds']:.0f} s"
    typer.echo(f"{subject.label}: {origin}, {100 * share:.1f} % right on validation data", err=True)
    typer.echo(str(path))


def _on_ray(executor: str, workers: int | None, given: dict[str, Any], cache: Path, device: str) -> None:
    """Train into the cache, with several processes of a Ray cluster; what follows finds the model there."""
    from robustkit.executors.choose import executor_of
    from robustkit.executors.ray import RayExecutor

    gpu = device.startswith("cuda")
    chosen = executor_of(executor, workers, gpu) if executor != "local" else None
    if not isinstance(chosen, RayExecutor):
        raise UsageError(
            "--workers of train are processes on Ray: give --executor ray too; on one machine use torchrun"
        )
    from robustkit.executors.ray_train import together

    settings = {name: value for name, value in given.items() if name not in ("defenses", "baseline", "seeds")}
    try:
        together(chosen, "robustkit.api:train", settings, cache, gpu)
    finally:
        chosen.shutdown()
