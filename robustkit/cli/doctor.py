"""`robustkit doctor`: what this installation is, and whether it works."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

from robustkit.cli.output import FormatOption, show
from robustkit.host import default_host


def doctor(format: FormatOption = None) -> None:
    """Show versions, device, speed of each precision, plugins and cache; exit code 1 where something is wrong."""
    import torch

    from robustkit.data.load import load_data
    from robustkit.models.build import build_model
    from robustkit.pipeline.environment import environment
    from robustkit.pipeline.store import ModelCache
    from robustkit.precision import precision_timings

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = environment(device)
    rows = [
        {"what": key, "found": str(value), "good": True}
        for key, value in found.items()
        if key != "versions" and value is not None
    ]
    rows += [{"what": name, "found": version, "good": True} for name, version in found["versions"].items()]
    host = default_host()
    data = load_data("mnist_10k", host=host)
    x = data.test.batch(torch.arange(64))[0].to(device)
    timings = precision_timings(build_model("cnn", data, host=host).to(device), x)
    for name, seconds in timings.items():
        words = f"{1e3 * seconds:.1f} ms for forward and input gradient of 64 images (cnn)"
        rows.append({"what": f"precision {name}", "found": words, "good": True})
    for provider in host.providers:
        words = f"{provider.distribution} {provider.version}"
        rows.append({"what": f"plugin {provider.name}", "found": words, "good": True})
    for broken in host.broken:
        words = f"broken at {broken.stage}: {broken.error}"
        rows.append({"what": f"plugin {broken.provider}", "found": words, "good": False})
    rows.append(_cache(ModelCache().directory))
    show(rows, ("what", "found", "good"), format)
    if not all(row["good"] for row in rows):
        raise typer.Exit(1)


def _cache(folder: Path) -> dict[str, object]:
    """Whether the cache can be written, and how much it holds."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return {"what": "cache", "found": f"{folder} cannot be written: {error}", "good": False}
    models = list((folder / "models").glob("*.safetensors"))
    size = sum(path.stat().st_size for path in models) / 1e6
    return {"what": "cache", "found": f"{folder}, {len(models)} models, {size:.1f} MB", "good": True}
