"""`robustkit bench`: train, attack and compare; one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustkit.cli import options
from robustkit.cli.complete import complete
from robustkit.cli.progress import Progress
from robustkit.cli.session import plugin_host
from robustkit.params import UsageError

if TYPE_CHECKING:
    from robustkit.api import BenchResult
    from robustkit.host import Host
    from robustkit.pipeline.plan import Plan


def bench(
    defense: Annotated[
        list[str] | None,
        typer.Option(
            "--defense",
            "--defenses",
            help="Trained or wrapped, with parameters: pgd_at:steps=10; by comma or repeated.",
            autocompletion=complete("defense"),
        ),
    ] = None,
    attacks: options.Attacks = None,
    certifiers: Annotated[
        str | None,
        typer.Option(
            "--certifiers",
            help="By comma, with parameters: smoothing:sigma=0.25; certified beside robust accuracy.",
            autocompletion=complete("certifier"),
        ),
    ] = None,
    poison: options.Poison = None,
    detectors: options.Detectors = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    pretrained: options.Pretrained = None,
    norm: options.Norm = None,
    eps: options.Eps = None,
    train_eps: Annotated[
        str | None, typer.Option("--train-eps", help="Radius that defenses train against, if another one.")
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="By comma; one trained model each.")] = None,
    limit: options.Limit = None,
    epochs: options.Epochs = None,
    recipe: options.RecipeOption = None,
    cascade: Annotated[
        bool | None, typer.Option("--cascade", help="Each attack only on what those before it left standing.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="Time of attacks, 90s, 10m or 1h: spent block by block where it lowers robust accuracy most; training "
            "is not counted. Without --attacks a portfolio for the threat model.",
        ),
    ] = None,
    precision_points: Annotated[
        float | None,
        typer.Option(
            "--precision-points",
            help="Judge test images in random order until the defenses' worst cases are told apart, or the 95 % "
            "interval of their difference is at most so many points to either side.",
        ),
    ] = None,
    no_baseline: Annotated[bool | None, typer.Option("--no-baseline", help="Leave the undefended model out.")] = None,
    targets: options.Targets = None,
    eot: options.Eot = None,
    device: options.Device = None,
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    data_dir: options.DataDir = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A bench.toml, or the spec.toml of a run; options override it.")
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", help="A run directory, or a file for the table: .md .csv .json .tex .parquet."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="Of stdout: table, markdown, csv, json, latex or parquet."),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", help="Exit with 1 where an accuracy is lower: 'pgd>=0.45', 'pgd_at/worst>=40%'."),
    ] = None,
    executor: options.Executor = "local",
    workers: options.Workers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the undefended baseline and each defense, attack them all, and print one table.

    The same command goes on where it was stopped, and answers from its records once it is done.

    Example: robustkit bench --defense pgd_at --attacks fgsm,pgd
    """
    given = options.settings(
        defenses=None if defense is None else [part for item in defense for part in options.split(item) or []],
        attacks=options.split(attacks),
        certifiers=options.split(certifiers),
        poison=poison,
        detectors=options.split(detectors),
        dataset=dataset,
        model=model,
        checkpoint=checkpoint,
        pretrained=pretrained,
        norm=norm,
        eps=options.split(eps),
        train_eps=train_eps,
        seeds=options.split(seeds),
        limit=limit,
        recipe=options.recipe(epochs, recipe),
        cascade=cascade,
        budget=budget,
        precision_points=precision_points,
        baseline=None if no_baseline is None else not no_baseline,
        targets=targets,
        eot=eot,
        device=device,
        precision=precision,
        batch_size=batch_size,
        data_dir=data_dir,
    )
    directory, files = _outputs(output or [])
    host = plugin_host()
    plan = _plan(config, given, host)
    gates = _gates(fail_under or [], plan)
    if dry_run:
        _show_plan(plan)
        return
    from robustkit.api import RUNS, run_plan
    from robustkit.executors.choose import executor_of

    chosen = executor_of(executor, workers, plan.device.startswith("cuda"))
    if chosen is not None and chosen.dashboard is not None:
        typer.echo(f"Ray's dashboard: {chosen.dashboard}", err=True)
    with Progress(quiet) as progress:
        result = run_plan(plan, directory or RUNS / plan.name, host, progress, chosen)
    publish(result, files, format)
    publish_inspections(result, format)
    _page(result)
    result.push()
    typer.echo(f"run directory: {result.place}", err=True)
    _exit(result, gates, plan)


def publish(result: BenchResult, files: list[Path], format: str | None) -> None:
    """The table to stdout, into the run directory, and into the files asked for."""
    from robustkit.files import write_atomically
    from robustkit.report.files import FORMATS, format_of, render
    from robustkit.report.footer import footer
    from robustkit.report.format import readable
    from robustkit.report.terminal import show

    if format is not None and format not in FORMATS:
        raise UsageError(f"--format {format!r} is not one of {', '.join(FORMATS)}")
    shown = readable(result.table, result.records)
    lines = footer(result.records, result.environment)
    if result.directory is not None:
        for suffix in (".md", ".csv", ".tex", ".json", ".parquet"):
            path = result.directory / "tables" / f"comparison{suffix}"
            write_atomically(path, render(format_of(path), result.table, shown, lines))
        cells = result.directory / "tables" / "cells.csv"
        write_atomically(cells, result.tidy.to_csv(index=False).encode())
    for path in files:
        write_atomically(path, render(format_of(path), result.table, shown, lines))
    chosen = format or ("table" if sys.stdout.isatty() else "markdown")
    if chosen == "table":
        from rich.console import Console

        show(shown, lines, "Robust accuracy in percent", Console())
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(render(chosen, result.table, shown, lines))
        sys.stdout.flush()


def publish_inspections(result: BenchResult, format: str | None) -> None:
    """What detectors said: to stdout, or to stderr where stdout is for machines, and into the run directory."""
    from robustkit.files import write_atomically
    from robustkit.report.backdoors import backdoor_table
    from robustkit.report.inputs import input_markdown, input_numbers, of_inputs

    inputs = of_inputs(result.inspections)
    others = [record for record in result.inspections if record["kind"] != "inputs"]
    texts = {"backdoors": backdoor_table(others)} if others else {}
    texts |= {"detectors": input_markdown(inputs)} if inputs else {}
    for name, text in texts.items():
        if result.directory is not None:
            write_atomically(result.directory / "tables" / f"{name}.md", text.encode())
        typer.echo(text, err=format not in (None, "table", "markdown"))
    if inputs and result.directory is not None:
        numbers = input_numbers(inputs).to_csv(index=False)
        write_atomically(result.directory / "tables" / "detectors.csv", numbers.encode())


def _page(result: BenchResult) -> None:
    """The report, where the records are not the ones that it shows already."""
    from robustkit.report.current import FILE, is_current

    if result.directory is None:
        return
    if not is_current(result.records, result.directory, result.inspections):
        result.report()
    typer.echo(f"report: {result.place}/{FILE}", err=True)


def _plan(config: Path | None, given: dict[str, Any], host: Host) -> Plan:
    from robustkit.pipeline.plan import make_plan
    from robustkit.pipeline.spec import BenchSpec

    plain = {} if config is None else BenchSpec.from_toml(config).to_plain()
    if not plain and not any(given.get(key) for key in ("attacks", "budget", "certifiers", "poison", "detectors")):
        raise UsageError("no attacks are given; e.g. robustkit bench --defense pgd_at --attacks fgsm,pgd")
    if "recipe" in given:
        given["recipe"] = {**plain.get("recipe", {}), **given["recipe"]}
    return make_plan(BenchSpec.from_plain({**plain, **given}, "bench"), host)


def _outputs(given: list[str]) -> tuple[Path | str | None, list[Path]]:
    """A directory or URL of the run, and files for the table, told apart by their suffix."""
    from robustkit.data.remote import local_path
    from robustkit.report.files import SUFFIXES, format_of

    files: list[Path] = []
    directories: list[Path | str] = []
    for text in given:
        path = local_path(text)
        if path is None:
            if text.endswith(SUFFIXES):
                raise UsageError(f"-o {text}: tables are written to files of this machine; a URL is a run directory")
            directories.append(text)
        elif path.suffix and not path.is_dir():
            files.append(path)
        else:
            directories.append(path)
    if len(directories) > 1:
        raise UsageError(f"-o names several run directories: {', '.join(map(str, directories))}")
    for path in files:
        format_of(path)
    return (directories[0] if directories else None), files


def _gates(texts: list[str], plan: Plan) -> list[Any]:
    """The gates, refused before anything runs where they name what the bench doesn't have."""
    from robustkit.report.gate import check_names, parse_gate

    gates = [parse_gate(text) for text in texts]
    check_names(gates, [subject.label for subject in plan.subjects], plan.columns)
    return gates


def _exit(result: BenchResult, gates: list[Any], plan: Plan) -> None:
    """Exit code 1 where a cell failed or a gate tripped."""
    from robustkit.pipeline.lineup import BASELINE
    from robustkit.report.gate import check_gates

    complaints = check_gates(gates, result.table, plan.columns, BASELINE)
    for complaint in complaints:
        typer.echo(f"gate: {complaint}", err=True)
    failed = [record for record in result.records if record["status"] != "ok"]
    if failed:
        words = f"{len(failed)} of {len(result.records)} cells failed"
        typer.echo(f"{words}; their reasons stand below the table", err=True)
    if complaints or failed or any(record["error"] is not None for record in result.inspections):
        raise typer.Exit(1)


def _show_plan(plan: Plan) -> None:
    """The cells with their providers and estimated passes."""
    from robustkit.cli.output import show

    rows = []
    for cell in plan.cells:
        provider = None if cell.component is None else cell.component.registered.provider
        rows.append(
            {
                "model": cell.subject.label,
                "seed": cell.subject.seed,
                "measured": cell.label,
                "threat": "" if cell.component is None else str(cell.threat),
                "provider": "" if provider is None else f"{provider.distribution} {provider.version}",
                "samples": plan.count,
                "passes a sample, at most": "unknown" if cell.passes is None else cell.passes,
            }
        )
    show(rows, list(rows[0]))
    typer.echo(f"{len(plan.subjects)} models, {len(plan.cells)} cells; nothing was run", err=True)
