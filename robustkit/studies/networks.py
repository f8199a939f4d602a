"""Networks and images for studies: trained with the kit's own recipes, taken from the cache where they are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from robustkit.api import train
from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import named
from robustkit.contracts import Data, Threat
from robustkit.data.load import load_data
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.norms import project, steepest
from robustkit.pipeline.pictures import chosen_rows

ROBUST = "pgd_at:steps=5"


def data_of(dataset: str, data_dir: str | None) -> Data:
    return load_data(dataset, host=default_host(), data_dir=Path(data_dir) if data_dir else None)


def usual_l2(data: Data) -> float:
    """A radius in L2 beside the data's usual one in Linf: a quarter of the diagonal of that ball, to two digits.

    2.1 on MNIST, 0.43 on CIFAR-10, 1.5 on ImageNet; the usual one itself where it is in L2.
    """
    if data.threat.norm != "linf":
        return data.threat.eps
    return float(f"{data.threat.eps * math.sqrt(math.prod(data.shape)) / 4:.2g}")


def trained(
    data: Data, dataset: str, model: str, defense: str, threat: Threat, *, epochs: int, seed: int, data_dir: str | None
) -> nn.Module:
    """A network in eval mode on the CPU, by `robustkit.train`."""
    return train(
        defense,
        dataset=dataset,
        model=model,
        norm=threat.norm,
        eps=threat.eps,
        seed=seed,
        recipe={"epochs": epochs},
        device="cpu",
        data_dir=data_dir,
    )


def three_networks(
    data: Data, dataset: str, model: str, *, epochs: int, seed: int, pretrained: bool, data_dir: str | None
) -> dict[str, nn.Module]:
    """Standard, trained against L2 and against Linf; with `pretrained` the one model as it is built."""
    if pretrained:
        return {model: build_model(model, data, host=default_host()).eval()}
    inf = data.threat if data.threat.norm == "linf" else Threat("linf", 8 / 255)
    l2 = Threat("l2", usual_l2(data))
    given: dict[str, Any] = {"epochs": epochs, "seed": seed, "data_dir": data_dir}
    return {
        "standard": trained(data, dataset, model, "standard", inf, **given),
        f"trained in {l2}": trained(data, dataset, model, ROBUST, l2, **given),
        f"trained in {inf}": trained(data, dataset, model, ROBUST, inf, **given),
    }


def shown_images(data: Data, most: int) -> tuple[Tensor, Tensor]:
    """x (n, C, H, W) and y (n,): the first test image of each class among the first 200, at most `most`."""
    rows = chosen_rows(data.test.labels[:200], 1)[:most]
    return data.test.batch(rows)


def logits_of(model: nn.Module, x: Tensor, batch: int = 250) -> Tensor:
    """(N, K) without gradients."""
    with torch.no_grad():
        return torch.cat([model(part) for part in torch.split(x, batch)])


def far_point(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, steps: int = 40, targeted: bool = True
) -> Tensor:
    """Steepest ascent in ball and box to its last step, wherever the prediction changes on the way.

    What `pgd` is without its early end: an example at a large ε shall be as adversarial as ε allows, not just enough.

    Args:
        model: in eval mode.
        x, y: (N, C, H, W), and (N,) classes to reach, or to leave where not targeted.
        threat: ball.
        steps: each 2.5·ε/steps long.
    """
    loss = named("cross_entropy", targeted)
    point = x.clone()
    for _ in range(steps):
        gradient, _, _ = input_gradient(model, point, y, loss)
        moved = point + 2.5 * threat.eps / steps * steepest(gradient, threat.norm, point)
        point = project(moved, x, threat)
    return point


def room_for(labels: Sequence[str], least: float) -> float:
    """Inches that labels left of a mosaic take, at least `least`."""
    return max(least, 0.3 + 0.062 * max(map(len, labels)))


def mosaic(axes: Axes, rows: Sequence[Tensor], left: Sequence[str], top: Sequence[str] = ()) -> None:
    """Images in rows, drawn as one: a hundred axes take a minute to lay out.

    Args:
        axes: to draw on.
        rows: of (n, C, H, W) in [0, 1], all alike.
        left: a label a row.
        top: a label a column.
    """
    height, width = rows[0].shape[-2:]
    gap = max(1, round(width / 16))
    lines = [torch.nn.functional.pad(row, (0, gap, 0, gap), value=1.0) for row in rows]  # (n, C, H + gap, W + gap)
    whole = torch.cat([torch.cat(list(line), dim=2) for line in lines], dim=1)[:, :-gap, :-gap]
    array = np.clip(whole.permute(1, 2, 0).numpy(), 0, 1)
    axes.imshow(array.squeeze(-1) if array.shape[2] == 1 else array, cmap="gray", vmin=0, vmax=1)
    axes.set_yticks([(height - 1) / 2 + place * (height + gap) for place in range(len(rows))], left)
    axes.set_xticks([(width - 1) / 2 + place * (width + gap) for place in range(len(top))], top)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
