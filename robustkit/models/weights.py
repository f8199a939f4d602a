"""Weights: reading checkpoints of others without running their code, writing our own, hashing."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.files import replacing
from robustkit.models.normalise import Normalised
from robustkit.params import UsageError, suggest

_NESTS = ("state_dict", "model", "model_state_dict", "net")
"""Under which keys training scripts keep the weights beside optimiser and epoch."""

_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before every name."""

_SHOWN = 4


def load_checkpoint(model: nn.Module, path: Path, *, new_head: bool = False) -> None:
    """Read a checkpoint into `model`, in place. Nothing in the file is executed.

    The format is told from the content: safetensors, or a file of `torch.save` that `weights_only=True` reads.
    Weights may lie under "state_dict" or "model", and names may carry the prefixes of DataParallel and
    torch.compile. Weights of the bare network (no normalisation) go into the network of a `Normalised` model,
    whose normalisation stays.

    Args:
        model: to be filled.
        path: of the file.
        new_head: where the last layer alone has another shape, for other classes, it stays as it is.

    Raises:
        UsageError: no such file, a pickle that holds more than tensors, names or shapes that don't fit.
    """
    state = _unwrap(_read(path), path)
    network = model.network if isinstance(model, Normalised) else model
    state = _without_wrappers(state, network.state_dict())
    target = model if any(key.startswith("network.") for key in state) else network
    own = target.state_dict()
    head = _head(target) if new_head else ()
    for key in head:
        if any(name in state and state[name].shape != own[name].shape for name in head):
            state[key] = own[key]
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    if missing or unexpected:
        raise UsageError(_names_message(path, missing, unexpected, own))
    unfit = [
        f"{key} is {tuple(state[key].shape)} there and {tuple(own[key].shape)} here"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if unfit:
        raise UsageError(
            f"{path} has other shapes: {_some(unfit)}. Is it for another number of classes, another image size, "
            "or a model of other width? Give --model the parameters it was trained with"
        )
    target.load_state_dict(state, strict=False)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the state of `model` as safetensors; the file appears whole or not at all.

    Raises:
        UsageError: the model keeps state that is not a tensor.
    """
    from safetensors.torch import save_file

    # clones, because safetensors refuses tensors that share memory
    state = {key: value.cpu().contiguous().clone() for key, value in _tensors(model).items()}
    with replacing(path) as part:
        save_file(state, part, metadata={"format": "pt"})


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of parameters and buffers; 64 hex digits.

    It does not depend on device, memory format or the order of the modules' construction.
    """
    digest = hashlib.sha256()
    for key, value in sorted(_tensors(model).items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _head(model: nn.Module) -> tuple[str, ...]:
    """The names of weight and bias of the last linear or convolutional layer."""
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1:]
    return tuple(
        f"{name}.{part}".lstrip(".") for name in last for part in dict(model.get_submodule(name).named_parameters())
    )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Any] = model.state_dict()
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise UsageError(f"{type(model).__name__} keeps {key}, a {type(value).__name__}, which is no tensor")
    return {key: value.detach() for key, value in state.items()}


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"checkpoint {path}: there is no such file")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UsageError(f"checkpoint {path} is a damaged safetensors file: {error}") from error
    try:
        with path.open("rb") as file:  # an open file, because torch.load takes a path's suffix for its format
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error:")[-1].strip().splitlines()[0]
        raise UsageError(
            f"checkpoint {path} is refused: it holds more than tensors, and reading it would run code from the "
            f"file ({reason}). Where you trust it, convert it once: "
            "torch.save(torch.load(FILE, weights_only=False).state_dict(), 'weights.pt'), or write safetensors"
        ) from error
    except Exception as error:  # torch's reader raises whatever a damaged file leads it to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"checkpoint {path} is neither safetensors nor a whole torch.save file: {reason}") from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The mapping of names to tensors, wherever the training script put it."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _NESTS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        shown = (
            f"a mapping of {_some(sorted(map(str, content)))}"
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise UsageError(f"checkpoint {path} holds {shown}, not a mapping of names to tensors (a state_dict)")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise UsageError(f"checkpoint {path}: {key!r} is a {type(value).__name__}, not a tensor")
    return dict(content)


def _without_wrappers(state: dict[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _WRAPPERS:
            if all(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in own):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                stripped = True
    return state


def _names_message(path: Path, missing: list[str], unexpected: list[str], own: Mapping[str, Any]) -> str:
    parts = [f"checkpoint {path} does not fit the model"]
    if missing:
        parts.append(f"{len(missing)} of {len(own)} names are missing ({_some(missing)})")
    if unexpected:
        hint = suggest(unexpected[0], own) if len(unexpected) + len(missing) <= _SHOWN else ""
        parts.append(f"{len(unexpected)} are unknown ({_some(unexpected)}{hint})")
    return "; ".join(parts) + ". Give --model the architecture it was trained with"


def _some(items: list[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")
