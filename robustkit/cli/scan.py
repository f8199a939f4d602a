"""`robustkit scan`: does this model, from wherever it comes, have a backdoor?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit.cli import options
from robustkit.cli.complete import complete
from robustkit.cli.session import plugin_host
from robustkit.params import UsageError

PORTFOLIO = "neural_cleanse,mmbd"


def scan(
    model: Annotated[
        str,
        typer.Argument(help="Architecture: name or package.module:factory.", autocompletion=complete("model")),
    ],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", help="Weights: .safetensors, or .pt with tensors only; repeated to compare models."
        ),
    ] = None,
    dataset: options.Dataset = None,
    detectors: Annotated[
        str,
        typer.Option("--detectors", help="By comma, with parameters; of models.", autocompletion=complete("detector")),
    ] = PORTFOLIO,
    alpha: Annotated[float, typer.Option("--alpha", help="Share of clean models that may be flagged.")] = 0.05,
    seed: Annotated[int, typer.Option("--seed", help="Of the detectors' random draws.")] = 0,
    device: options.Device = None,
    data_dir: options.DataDir = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the page, the pictures and verdict.json.")
    ] = Path("scan"),
    json_only: Annotated[
        bool, typer.Option("--json", help="The verdict as JSON on stdout, instead of the page.")
    ] = False,
) -> None:
    """Ask several detectors whether a model has a backdoor; exit code 1 where they say so.

    Example: robustkit scan cnn --checkpoint weights.safetensors --dataset mnist_10k
    """
    import json

    from robustkit.data.load import load_data
    from robustkit.files import write_atomically
    from robustkit.hookspecs import DetectorEntry
    from robustkit.models.build import build_model
    from robustkit.models.weights import load_checkpoint
    from robustkit.pipeline.detect import ask, verdict_record
    from robustkit.pipeline.plan import settle_device
    from robustkit.pipeline.subjects import file_name
    from robustkit.report.backdoors import draw_pictures, portfolio, verdict_page

    if not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha:g} must lie between 0 and 1; 5 % is 0.05")
    host = plugin_host()
    asked = [host.build("detector", text) for text in options.split(detectors) or []]
    for detector in asked:
        assert isinstance(detector.entry, DetectorEntry)
        if detector.entry.scope != "model":
            raise UsageError(
                f"{detector.label} judges {detector.entry.scope}s, not models; a scan takes those of scope model, "
                f"e.g. {PORTFOLIO}"
            )
    data = load_data(dataset or "mnist_10k", host=host, data_dir=data_dir)
    where = settle_device(device or "auto")
    results: list[dict[str, Any]] = []
    pages: list[str] = []
    paths: list[Path | None] = [*(checkpoint or [])] or [None]
    for path in paths:
        network = build_model(model, data, host=host)
        if path is not None:
            load_checkpoint(network, path)
        network = network.to(where).eval()
        name = model if path is None else path.stem
        records: list[dict[str, Any]] = []
        pictures: dict[str, str] = {}
        for detector in asked:
            try:
                verdict, seconds = ask(detector, network, data, seed)
            except (Exception, SystemExit) as error:  # one detector's failure must not hide what the others say
                records.append({"detector": detector.label, "error": f"{type(error).__name__}: {error}"})
                continue
            records.append({**verdict_record(detector, verdict, seconds, None), "error": None})
            if verdict.images:
                picture = f"{file_name(name)}-{file_name(detector.label)}.png"
                draw_pictures(verdict.images, output / picture)
                pictures[detector.label] = picture
        flagged, p = portfolio(records, alpha)
        results.append(
            {
                "model": name,
                "dataset": data.name,
                "flagged": flagged,
                "p_value": p,
                "alpha": alpha,
                "detectors": records,
            }
        )
        pages.append(verdict_page(name, data.name, records, alpha, pictures))
    if len(results) > 1:
        order = sorted(results, key=lambda result: float(result["p_value"]))
        pages.append(
            "Most suspicious first: " + ", ".join(f"{r['model']} (p = {r['p_value']:.2g})" for r in order) + "\n"
        )
    page = "\n".join(pages)
    text = json.dumps({"schema": 1, "models": results}, indent=2, allow_nan=False)
    write_atomically(output / "verdict.md", page.encode())
    write_atomically(output / "verdict.json", text.encode())
    typer.echo(text if json_only else page)
    typer.echo(f"page, pictures and verdict.json: {output}", err=True)
    failed = any(record["error"] for result in results for record in result["detectors"])
    if failed or any(result["flagged"] for result in results):
        sys.stdout.flush()
        raise typer.Exit(1)
