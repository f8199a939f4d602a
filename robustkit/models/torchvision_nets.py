"""Any classifier of torchvision, with its published weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from robustkit.contracts import Shape
from robustkit.params import ParamError, UsageError, suggest

PREFIX = "torchvision."

_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def torchvision_net(
    name: str, given: Mapping[str, str], shape: Shape, classes: int
) -> tuple[nn.Module, tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """Build "torchvision.NAME".

    Args:
        name: "torchvision.resnet50", any name of `torchvision.models.list_models(torchvision.models)`.
        given: `weights`: "DEFAULT", the name of one of the network's published sets, or "none" (the default);
            `head`: "own" (the default), or "new" for a last layer of K classes that is still to be trained.
        shape: (3, H, W); torchvision's classifiers take colour images.
        classes: K; with published weights and their own head it has to be theirs, 1,000.

    Returns:
        The network, and the mean and std its weights were trained with (None without weights).

    Raises:
        UsageError: unknown network or weights, grey images, another number of classes, a failed download.
    """
    from torchvision import models

    known = models.list_models(models)
    bare = name.removeprefix(PREFIX)
    if bare not in known:
        raise UsageError(f"torchvision has no classifier {bare!r}{suggest(bare, known)}")
    for key in given:
        if key not in ("weights", "head"):
            raise ParamError(f"{name} has no parameter {key!r}; it has weights and head")
    new_head = given.get("head", "own") == "new"
    if given.get("head", "own") not in ("own", "new"):
        raise ParamError(f"{name}: head={given['head']!r} is not one of own or new")
    if shape[0] != 3:
        raise UsageError(f"{name} takes images of 3 channels, these have {shape[0]}; take --model resnet18 or cnn")
    more: dict[str, Any] = {"aux_logits": False} if bare in _WITH_AUXILIARY_HEADS else {}
    if given.get("weights", "none").lower() == "none":
        if more:
            more["init_weights"] = True
        return models.get_model(bare, weights=None, num_classes=classes, **more), None
    weights = _weights(bare, given["weights"], models)
    known_classes = len(weights.meta["categories"])
    if known_classes != classes and not new_head:
        raise UsageError(
            f"{name}:weights={given['weights']} knows {known_classes} classes, the data have {classes}; "
            "add :head=new to fine-tune them, take weights=none and train, or data with the same classes"
        )
    try:
        network: Any = models.get_model(bare, weights=weights, **({"aux_logits": True} if more else {}))
    except (OSError, RuntimeError) as error:
        import torch

        file = f"{torch.hub.get_dir()}/checkpoints/{weights.url.rpartition('/')[2]}"
        raise UsageError(
            f"{name}: the weights {weights.url} could not be downloaded ({type(error).__name__}: {error}). "
            f"Place the file at {file}, or take weights=none with --checkpoint FILE"
        ) from error
    if more:  # heads that help only in training, and change the output's type there
        network.aux_logits = False
        network.AuxLogits = network.aux1 = network.aux2 = None
    if new_head:
        _replace_head(network, known_classes, classes)
    transforms = weights.transforms()
    return network, (tuple(transforms.mean), tuple(transforms.std))


def _weights(bare: str, wanted: str, models: Any) -> Any:
    published = models.get_model_weights(bare)
    if wanted not in published.__members__:  # DEFAULT is among them
        listing = ", ".join(published.__members__)
        raise ParamError(f"torchvision.{bare}:weights={wanted!r} is not one of {listing} or none")
    return published[wanted]


def _replace_head(network: nn.Module, known: int, classes: int) -> None:
    """A new last layer; it is the last one with as many outputs as there were classes."""
    layers = dict(network.named_modules())
    for path, old in reversed(layers.items()):
        new: nn.Module
        if isinstance(old, nn.Linear) and old.out_features == known:
            new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
        elif isinstance(old, nn.Conv2d) and old.out_channels == known:
            new = nn.Conv2d(old.in_channels, classes, old.kernel_size, bias=old.bias is not None)  # type: ignore[arg-type]
        else:
            continue
        parent, _, last = path.rpartition(".")
        setattr(layers[parent], last, new)
        return
    raise UsageError(f"{type(network).__name__} has no last layer with {known} outputs to replace")
