"""`interpolate`: from an image to its large-ε adversarial example, step by step."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from robustkit.contracts import Threat
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

_STRIP = 9
_FRAMES = 17
_TIMES = 4.0


def interpolate(
    *,
    dataset: str = "mnist_10k",
    model: str = "cnn",
    epochs: int = 4,
    seed: int = 0,
    pretrained: bool = False,
    data_dir: str | None = None,
) -> Study:
    """Straight lines from images to examples of the next class at four times the usual L2 radius.

    Args:
        dataset, model, data_dir: as for a bench.
        epochs, seed: of the trainings.
        pretrained: look at the model as it is built.
    """
    data = data_of(dataset, data_dir)
    networks = three_networks(data, dataset, model, epochs=epochs, seed=seed, pretrained=pretrained, data_dir=data_dir)
    threat = Threat("l2", _TIMES * usual_l2(data))
    x, y = shown_images(data, 4)
    target = (y + 1) % len(data.classes)
    ends = {name: far_point(network, x, target, threat) for name, network in networks.items()}
    shares = pd.concat(
        [_shares(name, network, x, ends[name], y, target) for name, network in networks.items()], ignore_index=True
    )
    table = pd.DataFrame([_row(name, shares[shares["network"] == name], len(x)) for name in networks])
    said = [
        f"{row['network']}: the other class takes over at t = {row['takes over at t']:.2f} on average, and its "
        f"confidence grows by at most {row['largest jump']:.2f} between two of {_FRAMES} images."
        for row in table.to_dict("records")
    ]
    return Study(
        name="interpolate",
        title="Is there a smooth way from one class to another?",
        text=[
            f"Between an image and its adversarial example at {threat} lie their mixtures (1 − t)·x + t·x_adv. Where "
            "gradients show the object, the mixtures change one class into the other by eye.",
            *said,
        ],
        tables={"smoothness": table},
        drawings=[_draw(ends, x, y, target, data.classes, shares)],
        files={"interpolate.gif": animation(x, list(ends.values()))},
    )


def mixtures(x: Tensor, end: Tensor, count: int) -> Tensor:
    """(count, N, C, H, W) from x to end in equal steps."""
    t = torch.linspace(0, 1, count).view(-1, *[1] * x.ndim)
    return (1 - t) * x + t * end


def animation(x: Tensor, ends: list[Tensor], side: int = 112) -> bytes:
    """A GIF that goes there and back: a row a network, a column an image."""
    ways = [mixtures(x, end, _FRAMES) for end in ends]
    order = [*range(_FRAMES), *range(_FRAMES - 2, 0, -1)]
    frames = []
    for place in order:
        rows = [np.concatenate([_pixels(image, side) for image in way[place]], axis=1) for way in ways]
        frames.append(Image.fromarray(np.concatenate(rows, axis=0)).quantize(64))
    content = io.BytesIO()
    frames[0].save(content, format="GIF", save_all=True, append_images=frames[1:], duration=90, loop=0)
    return content.getvalue()


def _pixels(image: Tensor, side: int) -> np.ndarray:
    """(side, side, 3) uint8."""
    levels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(levels.squeeze(-1) if levels.shape[2] == 1 else levels).convert("RGB")
    how = Image.Resampling.NEAREST if side > picture.width else Image.Resampling.BOX
    return np.asarray(picture.resize((side, side), how))


def _shares(name: str, network: nn.Module, x: Tensor, end: Tensor, y: Tensor, target: Tensor) -> pd.DataFrame:
    rows = []
    for t, images in zip(np.linspace(0, 1, _FRAMES), mixtures(x, end, _FRAMES), strict=True):
        shares = logits_of(network, images).softmax(dim=1)
        for place in range(len(x)):
            rows.append(
                {
                    "network": name,
                    "image": place,
                    "t": float(t),
                    "confidence of its class": float(shares[place, y[place]]),
                    "confidence of the other": float(shares[place, target[place]]),
                }
            )
    return pd.DataFrame(rows)


def _row(name: str, shares: pd.DataFrame, count: int) -> dict[str, object]:
    takes, jumps = [], []
    for place in range(count):
        mine = shares[shares["image"] == place]
        over = mine[mine["confidence of the other"] > mine["confidence of its class"]]["t"]
        takes.append(float(over.min()) if len(over) else 1.0)
        jumps.append(float(mine["confidence of the other"].diff().max()))
    return {"network": name, "takes over at t": float(np.mean(takes)), "largest jump": max(jumps), "images": count}


def _draw(
    ends: dict[str, Tensor], x: Tensor, y: Tensor, target: Tensor, classes: tuple[str, ...], shares: pd.DataFrame
) -> Drawing:
    with styled():
        ways = [f"{classes[y[i]]} → {classes[target[i]]}" for i in range(len(x))]
        figure = new_figure(0.75 * _STRIP + room_for(ways, 0.8), (0.75 * len(x) + 0.5) * len(ends))
        grid = figure.subplots(len(ends), 1, squeeze=False)
        for axes, (name, end) in zip(grid[:, 0], ends.items(), strict=True):
            top = [f"t = {t:.3g}" for t in np.linspace(0, 1, _STRIP)]
            mosaic(axes, list(mixtures(x, end, _STRIP).transpose(0, 1)), ways, top)
            axes.set_title(name)
    caption = "From the image (left) in equal steps to its adversarial example (right)."
    return Drawing("interpolate", "From one class to another", caption, figure, shares)
