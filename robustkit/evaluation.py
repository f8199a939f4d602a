"""From Python: `robustkit.evaluate`, a model and tensors of your own."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.api import BenchResult, result_of
from robustkit.contracts import Data, Norm, Precision, Threat
from robustkit.data.splits import ArraySplit, fingerprint
from robustkit.engine.guard import judging
from robustkit.host import Host, default_host
from robustkit.params import UsageError
from robustkit.pipeline.ending import terminable
from robustkit.pipeline.events import Listener, ignore
from robustkit.pipeline.lineup import external_subject
from robustkit.pipeline.plan import plan_cells
from robustkit.pipeline.run import run
from robustkit.pipeline.spec import BenchSpec, asked
from robustkit.pipeline.spend import spend
from robustkit.pipeline.store import ModelCache, RunStore
from robustkit.pipeline.subjects import Built


@terminable()
def evaluate(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    attacks: Sequence[str | Mapping[str, Any]] | str,
    threat: Threat | tuple[Norm, float],
    *,
    precision: Precision = "auto",
    batch_size: int | None = None,
    eot: int = 1,
    seed: int = 0,
    budget: float | str | None = None,
    host: Host | None = None,
    listen: Listener = ignore,
) -> BenchResult:
    """Judge your own model on your own tensors. Nothing is written; the model comes back as it was.

    Args:
        model: float32 (N, C, H, W) in [0, 1] → logits (N, K); its normalisation is inside.
        data: x (N, C, H, W), float in [0, 1] or uint8, and labels y (N,) int64.
        attacks: "fgsm,pgd:steps=50", or a list of texts or tables.
        threat: `Threat`, or norm and eps in input units: ("linf", 8/255).
        precision: of the search; verdicts are always float32.
        batch_size: samples a forward pass at most.
        eot: draws over which attacks that follow gradients average the logits, of a model that draws random numbers.
        seed: part of what seeds the attacks.
        budget: seconds of attacks ("90s", "10m" or a number), spent where they lower robust accuracy most, each on
            what still stands. Without attacks, [], a portfolio is taken. None: every attack on every sample.
        host: None is all installed plugins.
        listen: told about progress.

    Raises:
        UsageError: x outside [0, 1], shapes that don't fit, an unknown attack, a norm it doesn't know.
    """
    threat = _threat(threat)
    host = host or default_host()
    test = _tensors(*data)
    parameter = next(model.parameters(), None)
    device = "cpu" if parameter is None else str(parameter.device)
    empty = ArraySplit(test.images[:0], test.labels[:0])
    known = Data(
        name="tensors",
        classes=tuple(str(k) for k in range(_classes(model, test, device))),
        shape=(test.images.shape[1], test.images.shape[2], test.images.shape[3]),
        threat=threat,
        train=empty,
        val=empty,
        test=test,
        fingerprint=fingerprint(test),
    )
    given = {
        "attacks": asked(attacks),
        "norm": threat.norm,
        "eps": [threat.eps],
        "precision": precision,
        "seeds": [seed],
        "eot": eot,
        "device": device,
        "dataset": "tensors",
        "model": type(model).__name__,
        **({} if batch_size is None else {"batch_size": batch_size}),
        **({} if budget is None else {"budget": budget}),
    }
    spec = BenchSpec.from_plain(given, "evaluate")
    subject = external_subject(type(model).__name__, seed, "held by the caller")
    plan = plan_cells(spec, known, [subject], host)
    built = Built(subject, model, {"weights": "held by the caller", "training_seconds": None}, True)
    with tempfile.TemporaryDirectory(prefix="robustkit-") as folder:
        store = RunStore(Path(folder) / "run")
        store.open()
        try:
            measure = run if budget is None else spend
            records = measure(plan, store, host=host, cache=ModelCache(), listen=listen, build=lambda _: built)
            found = result_of(store, records)
            samples = dict(found.samples)  # the folder is about to go
        finally:
            store.close()
    return dataclasses.replace(found, directory=None, samples=samples)


def _threat(threat: Threat | tuple[Norm, float]) -> Threat:
    try:
        return threat if isinstance(threat, Threat) else Threat(*threat)
    except (ValueError, TypeError) as error:
        raise UsageError(f"threat={threat!r}: {error}; write e.g. ('linf', 8/255)") from error


def _tensors(x: Any, y: Any) -> ArraySplit:
    images, labels = torch.as_tensor(x).detach().cpu(), torch.as_tensor(y).detach().cpu()
    if not len(images):
        raise UsageError("data holds no samples")
    if labels.is_floating_point() or labels.ndim != 1:
        raise UsageError(f"labels are {labels.dtype} {tuple(labels.shape)}; give class numbers (N,), e.g. y.argmax(1)")
    return ArraySplit(images if images.dtype == torch.uint8 else images.float(), labels.long())


def _classes(model: nn.Module, test: ArraySplit, device: str) -> int:
    """How many classes the model knows.

    Raises:
        UsageError: it is not float32, cannot take the images, or knows fewer classes than the labels name.
    """
    other = next((p for p in model.parameters() if p.is_floating_point() and p.dtype != torch.float32), None)
    if other is not None:
        raise UsageError(f"the model's parameters are {other.dtype}; verdicts are float32: pass model.float()")
    x, _ = test.batch(torch.arange(min(2, len(test))))
    try:
        with judging(model):
            logits = model(x.to(device))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UsageError(f"the model cannot take images of {tuple(test.images.shape[1:])}: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        raise UsageError(f"the model must return logits (N, K), not {getattr(logits, 'shape', type(logits).__name__)}")
    low, high = int(test.labels.min()), int(test.labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise UsageError(
            f"labels reach from {low} to {high}; the model's {logits.shape[1]} logits are of classes from 0"
        )
    return int(logits.shape[1])
