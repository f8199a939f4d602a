"""`large_eps`: what do adversarial examples show when they may go far?"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.engine.statistics import wilson
from robustkit.report.drawing import Drawing, new_figure, styled
from robustkit.studies.networks import (
    data_of,
    far_point,
    logits_of,
    mosaic,
    room_for,
    shown_images,
    three_networks,
    usual_l2,
)
from robustkit.studies.study import Study

_TIMES = (1.0, 2.0, 4.0)


def large_eps(
    *,
    dataset: str = "mnist_10k",
    model: str = "cnn",
    epochs: int = 4,
    limit: int = 100,
    seed: int = 0,
    pretrained: bool = False,
    data_dir: str | None = None,
) -> Study:
    """Examples driven to the next class within 1, 2 and 4 times the usual L2 radius.

    Whether they show that class is judged by the other networks, which the example was not made for.

    Args:
        dataset, model, data_dir: as for a bench.
        epochs, seed: of the trainings.
        limit: test images that are counted.
        pretrained: look at the model as it is built, which no other network judges then.
    """
    data = data_of(dataset, data_dir)
    networks = three_networks(data, dataset, model, epochs=epochs, seed=seed, pretrained=pretrained, data_dir=data_dir)
    threats = [Threat("l2", times * usual_l2(data)) for times in _TIMES]
    x, y = data.test.batch(torch.arange(min(limit, len(data.test))))
    target = (y + 1) % len(data.classes)
    table = pd.DataFrame([_row(name, networks, x, target, threat) for name in networks for threat in threats])
    return Study(
        name="large_eps",
        title="Do adversarial examples at large ε show the other class?",
        text=_text(table),
        tables={"judged": table},
        drawings=[_draw(networks, *shown_images(data, 4), threats, data.classes, table)],
    )


def _row(name: str, networks: dict[str, nn.Module], x: Tensor, target: Tensor, threat: Threat) -> dict[str, object]:
    moved = far_point(networks[name], x, target, threat)
    own = int((logits_of(networks[name], moved).argmax(dim=1) == target).sum())
    row: dict[str, object] = {"made for": name, "eps": threat.eps, "n": len(x), "own network": own / len(x)}
    judges = [network for other, network in networks.items() if other != name]
    if judges:
        hits = torch.stack([logits_of(judge, moved).argmax(dim=1) == target for judge in judges]).all(dim=0)
        row["other networks agree"] = float(hits.double().mean())
        row["low"], row["high"] = wilson(int(hits.sum()), len(x))
    return row


def _text(table: pd.DataFrame) -> list[str]:
    asked = (
        "asked of the other networks" if "other networks agree" in table else "for the eye: no other network is asked"
    )
    said = [
        "Each example is driven to the class after its own by steepest ascent in an L2 ball, to the last "
        f"step. It reaches that class for the network it was made for; whether it shows it is {asked}."
    ]
    largest = table[table["eps"] == table["eps"].max()]
    for row in largest.to_dict("records"):
        line = f"Made for {row['made for']} at ε = {row['eps']:.3g}: {100 * row['own network']:.0f} % reach the class"
        if "other networks agree" in row:
            line += f", for {100 * row['other networks agree']:.0f} % all other networks see it, too"
        said.append(line + ".")
    return said


def _draw(
    networks: dict[str, nn.Module],
    x: Tensor,
    y: Tensor,
    threats: list[Threat],
    classes: tuple[str, ...],
    data: pd.DataFrame,
) -> Drawing:
    target = (y + 1) % len(classes)
    with styled():
        ways = [f"{classes[y[i]]} → {classes[target[i]]}" for i in range(len(x))]
        left = room_for(ways, 1.0 / len(networks))
        figure = new_figure((1.0 * (1 + len(threats)) + left) * len(networks), 1.0 * len(x) + 0.8)
        grid = figure.subplots(1, len(networks), squeeze=False)
        for axes, (name, network) in zip(grid[0], networks.items(), strict=True):
            columns = torch.stack([x, *(far_point(network, x, target, threat) for threat in threats)])  # (E, n, …)
            top = ["image", *(f"ε = {threat.eps:.3g}" for threat in threats)]
            mosaic(axes, list(columns.transpose(0, 1)), ways, top)
            axes.set_title(name)
    caption = "Left the image, then its example within growing L2 balls, driven to the class on the right of the arrow."
    return Drawing("large_eps", "Adversarial examples at large ε", caption, figure, data)
