"""From the text a user writes to an untrained model with its normalisation built in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from robustkit.contracts import Architecture, Data
from robustkit.factory import call_factory, import_factory, is_reference, takes
from robustkit.host import Host, NameNotFound
from robustkit.imagenet import CLASSES
from robustkit.models.normalise import Normalise, Normalised
from robustkit.models.restricted import answering_for_groups, is_restricted
from robustkit.models.torchvision_nets import PREFIX, torchvision_net
from robustkit.params import UsageError, parse_call


def build_model(text: str, data: Data, *, host: Host, seed: int = 0) -> nn.Module:
    """Build a model for the images and classes of `data`.

    Args:
        text: a registered name with parameters ("wide_resnet:depth=16:width=4"), "torchvision.NAME" (with
            ":weights=DEFAULT" for its published weights), or "package.module:factory". A factory with the
            parameters (shape, classes) makes a network, which is normalised like ours; one without parameters
            makes a whole model, inputs in [0, 1], normalisation included, which is taken as it is.
        data: gives shape, number of classes, mean and std. Published weights bring their own mean and std. On
            Restricted ImageNet a network of a factory or of torchvision with ImageNet's 1,000 classes answers for nine.
        host: where names are looked up.
        seed: of the first weights; the caller's random state stays as it is.

    Returns:
        `Normalised(normalise, network)`: float (N, C, H, W) in [0, 1] → logits (N, K), in train mode.

    Raises:
        UsageError: unknown name or parameter, a shape the model cannot take, weights for other classes.
    """
    mean, std = data.mean, data.std
    checked = False  # what others bring is tried once
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would reseed CUDA as well
        if _is_factory(text, host):
            network, whole = _from_factory(text, data)
            mean, std = ((0.0,), (1.0,)) if whole else (mean, std)
            checked = True
        elif text.startswith(PREFIX) and not any(p.name == PREFIX[:-1] for p in host.providers):
            name, given = parse_call(text)
            network, own = torchvision_net(name, given, data.shape, _outputs(given, data))
            mean, std = own or (mean, std)
            checked = True
        else:
            architecture: Architecture = host.build("model", text).value
            network = architecture(data.shape, len(data.classes))
    if not isinstance(network, nn.Module):
        raise UsageError(f"{text} returned a {type(network).__name__}; a model is a torch.nn.Module")
    if checked and is_restricted(data.classes):
        network = answering_for_groups(network, data.shape)
    if not isinstance(network, Normalised):
        network = Normalised(Normalise(mean, std, data.shape[0]), network)
    if checked:
        _try(network, data, text)
    return network.train()


def _outputs(given: Mapping[str, str], data: Data) -> int:
    """How many classes torchvision's network is to have, before it answers for groups of them."""
    published = given.get("weights", "none").lower() != "none" and given.get("head", "own") == "own"
    return CLASSES if published and is_restricted(data.classes) else len(data.classes)


def _try(model: nn.Module, data: Data, text: str) -> None:
    """Run two grey images through a model that is not ours.

    Raises:
        UsageError: it cannot take the images, or gives something else than a logit a class.
    """
    x = torch.full((2, *data.shape), 0.5)  # (2, C, H, W)
    model.eval()
    try:
        with torch.no_grad():
            logits = model(x)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise UsageError(f"{text} cannot take images of {tuple(data.shape)}: {error}") from error
    if not isinstance(logits, torch.Tensor):
        raise UsageError(f"{text} returns a {type(logits).__name__}; a model returns logits (N, K)")
    if logits.shape != (2, len(data.classes)):
        raise UsageError(
            f"{text} gives {tuple(logits.shape)} for 2 images; {data.name} has {len(data.classes)} classes, "
            f"which takes logits (2, {len(data.classes)})"
        )


def _from_factory(text: str, data: Data) -> tuple[Any, bool]:
    """What a factory makes, and whether it is a whole model."""
    factory = import_factory(text)
    given = {"shape": data.shape, "classes": len(data.classes)}
    whole = not takes(factory, given)
    return call_factory(text, factory, *(() if whole else given.values())), whole


def _is_factory(text: str, host: Host) -> bool:
    if not is_reference(text):
        return False
    try:
        host.find("model", text.partition(":")[0])
    except NameNotFound:
        return True
    return False
