"""`epochs`: how adversarial examples change while a network is trained."""

from __future__ import annotations

import copy
import dataclasses

import pandas as pd
import torch
from torch import Tensor, nn

from robustkit.contracts import Threat, Training, TrainingProgress
from robustkit.engine.statistics import wilson
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.report.drawing import Drawing, new_figure, styled
from robustkit.studies.networks import ROBUST, data_of, far_point, logits_of, mosaic, room_for, shown_images, usual_l2
from robustkit.studies.study import Study

_TIMES = 3.0
_SHOWN = 8


def epochs(
    *,
    dataset: str = "mnist_10k",
    model: str = "cnn",
    epochs: int = 6,
    limit: int = 200,
    seed: int = 0,
    data_dir: str | None = None,
) -> Study:
    """Examples at three times the usual L2 radius, made for the network of each epoch of a training against L2.

    Args:
        dataset, model, data_dir: as for a bench.
        epochs, seed: of the training.
        limit: test images for the accuracies.
    """
    data = data_of(dataset, data_dir)
    host = default_host()
    threat = Threat("l2", usual_l2(data))
    network = build_model(model, data, host=host, seed=seed)
    kept: dict[int, nn.Module] = {0: copy.deepcopy(network).eval()}

    def keep(progress: TrainingProgress) -> None:
        # told last with the metrics of validation, when the epoch is over
        if "validation accuracy" in progress.metrics:
            kept[progress.epoch] = copy.deepcopy(network).eval()

    training = Training(
        threat=threat,
        recipe=dataclasses.replace(data.recipe, epochs=epochs),
        seed=seed,
        precision="fp32",
        report=keep,
    )
    host.build("defense", ROBUST).value(network, data, training)
    x, y = data.test.batch(torch.arange(min(limit, len(data.test))))
    table = pd.DataFrame([_row(epoch, found, x, y, threat) for epoch, found in kept.items()])
    first, last = table.iloc[0], table.iloc[-1]
    shown = dict(list(kept.items())[:: -(-len(kept) // _SHOWN)])
    return Study(
        name="epochs",
        title="How do adversarial examples change while a network is trained?",
        text=[
            f"{ROBUST} against {threat}, {epochs} epochs. Of {len(x)} test images {100 * first['accuracy']:.1f} % "
            f"are right "
            f"before training and {100 * last['accuracy']:.1f} % after it; under steepest ascent within that ball "
            f"{100 * last['robust accuracy']:.1f} % stay right.",
            f"The examples at {_TIMES:g} times that radius begin as noise of the untrained network; how far they "
            f"show the "
            "class they were driven to is what the figure lets one see, epoch by epoch.",
        ],
        tables={"epochs": table},
        drawings=[_draw(shown, *shown_images(data, 5), Threat("l2", _TIMES * threat.eps), data.classes, table)],
    )


def _row(epoch: int, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> dict[str, object]:
    right = logits_of(network, x).argmax(dim=1) == y
    moved = far_point(network, x, y, threat, steps=20, targeted=False)
    stays = right & (logits_of(network, moved).argmax(dim=1) == y)
    row: dict[str, object] = {"epoch": epoch, "n": len(x)}
    for name, hits in (("accuracy", right), ("robust accuracy", stays)):
        low, high = wilson(int(hits.sum()), len(x))
        row |= {name: float(hits.double().mean()), f"{name} low": low, f"{name} high": high}
    return row


def _draw(
    kept: dict[int, nn.Module], x: Tensor, y: Tensor, threat: Threat, classes: tuple[str, ...], data: pd.DataFrame
) -> Drawing:
    target = (y + 1) % len(classes)
    with styled():
        ways = [f"{classes[y[i]]} → {classes[target[i]]}" for i in range(len(x))]
        figure = new_figure(1.0 * (len(kept) + 1) + room_for(ways, 0.6), 1.0 * len(x) + 0.5)
        columns = torch.stack([x, *(far_point(network, x, target, threat) for network in kept.values())])  # (E, n, …)
        top = ["image", *(f"epoch {epoch}" for epoch in kept)]
        mosaic(figure.subplots(), list(columns.transpose(0, 1)), ways, top)
    caption = f"Examples within {threat}, made for the network after each epoch and driven to the next class."
    return Drawing("epochs", "Adversarial examples over a training", caption, figure, data)
