"""`gradients`: does the loss gradient with respect to the input look like the image?"""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor, nn

from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import cross_entropy
from robustkit.engine.statistics import wilson
from robustkit.report.drawing import Drawing, new_figure, styled
from robustkit.studies.networks import data_of, logits_of, mosaic, shown_images, three_networks
from robustkit.studies.study import Study


def gradients(
    *,
    dataset: str = "mnist_10k",
    model: str = "cnn",
    epochs: int = 4,
    limit: int = 200,
    seed: int = 0,
    pretrained: bool = False,
    data_dir: str | None = None,
) -> Study:
    """Input gradients of a standard network beside those trained against L2 and Linf (Tsipras et al. 2019).

    Args:
        dataset, model, data_dir: as for a bench.
        epochs, seed: of the trainings.
        limit: test images that the alignment is measured on.
        pretrained: look at the model as it is built.
    """
    data = data_of(dataset, data_dir)
    networks = three_networks(data, dataset, model, epochs=epochs, seed=seed, pretrained=pretrained, data_dir=data_dir)
    x, y = data.test.batch(torch.arange(min(limit, len(data.test))))
    rows, details = [], []
    for name, network in networks.items():
        found = alignment(loss_gradient(network, x, y), x)
        hits = int((logits_of(network, x).argmax(dim=1) == y).sum())
        low, high = wilson(hits, len(x))
        error = float(found.std()) / math.sqrt(len(found))
        rows.append(
            {
                "network": name,
                "accuracy": hits / len(x),
                "accuracy low": low,
                "accuracy high": high,
                "alignment": float(found.mean()),
                "± (95 %)": 1.96 * error,
                "n": len(x),
            }
        )
        details.append(pd.DataFrame({"network": name, "image": range(len(x)), "alignment": found.numpy()}))
    table = pd.DataFrame(rows)
    ordered = table.sort_values("alignment", ascending=False)
    said = ", ".join(f"{row.network} {row.alignment:.3f}" for row in ordered.itertuples())
    return Study(
        name="gradients",
        title="Do input gradients look like the image?",
        text=[
            "The gradient of the loss with respect to the input says which pixels a network would have changed. "
            "Tsipras et "
            "al. (2019, https://arxiv.org/abs/1805.12152) found that it looks like noise for standard networks "
            "and like "
            "the object for robust ones. Alignment is |⟨x, g⟩| / (‖x‖‖g‖) of image and gradient, between 0 and 1 "
            "(after "
            "Etmann et al. 2019, https://arxiv.org/abs/1905.04172).",
            f"Mean alignment over {len(x)} test images: {said}.",
        ],
        tables={"alignment": table},
        drawings=[_draw(networks, *shown_images(data, 6), pd.concat(details, ignore_index=True))],
    )


def loss_gradient(model: nn.Module, x: Tensor, y: Tensor, batch: int = 100) -> Tensor:
    """(N, C, H, W) ∇ₓ cross-entropy."""
    parts = zip(torch.split(x, batch), torch.split(y, batch), strict=True)
    return torch.cat([input_gradient(model, images, labels, cross_entropy)[0] for images, labels in parts])


def alignment(gradient: Tensor, x: Tensor) -> Tensor:
    """(N,) |cosine| of gradient and image; 0 where the gradient vanishes."""
    # in float64, since the gradient of a confident network is tiny
    return torch.cosine_similarity(gradient.flatten(1).double(), x.flatten(1).double(), dim=1, eps=1e-300).abs()


def as_picture(gradient: Tensor) -> Tensor:
    """(N, C, H, W) gradients clipped at ±3 of their standard deviations, image by image, and scaled to [0, 1]."""
    limit = 3 * gradient.flatten(1).double().std(dim=1).clamp(min=1e-300)[:, None, None, None]
    return (gradient.double().clamp(-limit, limit) / limit / 2 + 0.5).float()


def _draw(networks: dict[str, nn.Module], x: Tensor, y: Tensor, data: pd.DataFrame) -> Drawing:
    with styled():
        rows = {"image": x} | {name: as_picture(loss_gradient(network, x, y)) for name, network in networks.items()}
        figure = new_figure(1.2 * len(x) + 1.4, 1.25 * len(rows))
        mosaic(figure.subplots(), list(rows.values()), [name.replace(" in ", "\nin ") for name in rows])
    caption = (
        "Test images, and below them the loss gradient of each network with respect to the image, clipped at ± 3 "
        "standard deviations and scaled to [0, 1]; grey is zero."
    )
    return Drawing("gradients", "Input gradients", caption, figure, data)
