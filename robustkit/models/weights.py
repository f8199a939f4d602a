"""Weights on disk: safetensors, or torch files that hold nothing but tensors."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robustkit.params import UsageError

_NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "ema")
_PREFIXES = ("module.", "_orig_mod.")


def save_weights(model: nn.Module, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write weights and buffers as safetensors, by rename, so that no half file is ever seen.

    Args:
        model: any module.
        path: ends in .safetensors.
        about: texts stored in the file's header.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(tensors, part, metadata=dict(about or {}))
    part.replace(path)


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load weights into `model`, or into the network behind its normalisation.

    Safetensors; or .pt, .pth, .ckpt, .bin through `torch.load(weights_only=True)`, whose state dict may be
    nested under a usual name and prefixed by DataParallel or torch.compile.

    Raises:
        UsageError: missing or damaged file, a pickle that would run code, keys or shapes that don't fit.
    """
    state = _read(path)
    inner = getattr(model, "network", None)
    targets = [model] + ([inner] if isinstance(inner, nn.Module) else [])
    for target in targets:
        wanted = target.state_dict()
        if set(state) == set(wanted):
            _check_shapes(state, wanted, path)
            target.load_state_dict(state)
            return
    closest = max(targets, key=lambda target: len(set(target.state_dict()) & set(state)))
    wanted = closest.state_dict()
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    raise UsageError(
        f"{path} does not fit the model: {_some('it lacks', missing)}{_some('the model has no', extra)}"
        "choose the architecture it was trained with (--model)"
    )


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all parameters and buffers, 16 hex digits."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(array.shape)}{array.dtype}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits.

    Raises:
        UsageError: there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"checkpoint {path}: there is no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UsageError(f"checkpoint {path}: there is no such file")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise UsageError(f"checkpoint {path} is damaged or no safetensors file: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"checkpoint {path} is refused: it is a pickle that holds more than tensors and could run code when "
            f"opened ({reason}). Save its state_dict() with safetensors where you trust the file"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise UsageError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error
    return _state_dict(loaded, path)


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what a file holds, and take the usual prefixes off."""
    if isinstance(loaded, Mapping):
        if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
            return {_bare(str(name)): value for name, value in loaded.items()}
        for nest in _NESTS:
            if isinstance(loaded.get(nest), Mapping):
                return _state_dict(loaded[nest], path)
    raise UsageError(
        f"checkpoint {path} holds no state dict (names to tensors), also not under {', '.join(_NESTS)}"
    )


def _bare(name: str) -> str:
    for prefix in _PREFIXES * 2:
        name = name.removeprefix(prefix)
    return name


def _check_shapes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            raise UsageError(
                f"{path}: {name} is {tuple(state[name].shape)}, the model's is {tuple(value.shape)}; "
                "choose the architecture and the data set it was trained with (--model, --dataset)"
            )


def _some(words: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{words} {shown}; "
