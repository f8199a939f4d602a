"""From the text a user writes to an untrained network with its normalisation inside."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from robustkit.contracts import Data
from robustkit.host import Host
from robustkit.models.normalise import Normalised
from robustkit.params import UsageError, parse_call, suggest


def build_model(text: str, data: Data, *, host: Host, seed: int = 0) -> nn.Module:
    """Build a network for a data set.

    Args:
        text: a registered name with parameters ("wide_resnet:depth=16:width=4"); "torchvision.NAME" with
            `:weights=DEFAULT` for its pretrained weights; or "package.module:factory", called as
            `factory(shape, classes)`.
        data: gives shape, number of classes and normalisation.
        host: where names are looked up.
        seed: of the initial weights; the caller's random state is left alone.

    Returns:
        A module in eval mode: float32 (N, C, H, W) in [0, 1] → logits (N, K).

    Raises:
        UsageError: unknown name or parameter, a factory that cannot be imported, weights that cannot be had.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        network = _network(text, data, host)
    mean, std = data.mean, data.std
    return Normalised(network, mean, std).eval()


def _network(text: str, data: Data, host: Host) -> nn.Module:
    name, _, rest = text.partition(":")
    classes = len(data.classes)
    if name.startswith("torchvision."):
        return _torchvision(text, classes)
    registered = {entry.qualified for entry in host.entries("model")}
    if "." in name and rest and "=" not in rest and name not in registered:
        return _factory(name, rest, data)
    network: nn.Module = host.build("model", text).value(data.shape, classes)
    return network


def _torchvision(text: str, classes: int) -> nn.Module:
    from torchvision import models

    qualified, params = parse_call(text)
    name = qualified.removeprefix("torchvision.")
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no classification model {name!r}{suggest(name, known)}")
    unknown = set(params) - {"weights"}
    if unknown:
        raise UsageError(f"{qualified} takes the parameter 'weights' alone, not {', '.join(sorted(unknown))}")
    weights = params.get("weights", "none")
    if weights.lower() == "none":
        model: nn.Module = models.get_model(name, weights=None, num_classes=classes)
        return model
    try:
        loaded: nn.Module = models.get_model(name, weights=weights)
    except (ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{text}: {error}; write weights=DEFAULT or weights=none") from error
    except OSError as error:  # URLError is one
        raise UsageError(
            f"{text}: the weights could not be downloaded ({error}); give a file of them with --checkpoint"
        ) from error
    found = _outputs(loaded)
    if found != classes:
        raise UsageError(
            f"{text} was trained for {found} classes, the data set has {classes}; use weights=none, "
            "or a data set with the same classes"
        )
    return loaded


def _outputs(model: nn.Module) -> int:
    """Classes of a torchvision network: the size of its last linear layer."""
    sizes = [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)]
    return sizes[-1] if sizes else -1


def _factory(module_name: str, attribute: str, data: Data) -> nn.Module:
    where = f"{module_name}:{attribute}"
    try:
        factory: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"model {where} cannot be imported: {error}") from error
    network = factory(data.shape, len(data.classes))
    if not isinstance(network, nn.Module):
        raise UsageError(f"model {where} returned a {type(network).__name__}, not a torch.nn.Module")
    return network
