from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robustkit.models.cnn import CNN
from robustkit.models.normalise import Normalise, Normalised
from robustkit.models.resnet import ResNet18
from robustkit.models.weights import load_checkpoint, save_weights, weights_hash
from robustkit.params import UsageError

SHAPE = (1, 28, 28)


def model(seed: int, mean: float = 0.1) -> Normalised:
    torch.manual_seed(seed)
    return Normalised(Normalise((mean,), (0.3,), 1), CNN()(SHAPE, 10))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    source, target = model(1), model(2, mean=0.9)
    save_weights(source, tmp_path / "deeper" / "weights.safetensors")
    load_checkpoint(target, tmp_path / "deeper" / "weights.safetensors")
    x = torch.rand(3, *SHAPE)
    assert torch.equal(source(x), target(x))
    assert weights_hash(source) == weights_hash(target)
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == ["weights.safetensors"]


def prefixed(prefix: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {prefix + name: value for name, value in state.items()}


NESTINGS: list[Callable[[dict[str, Any]], Any]] = [
    lambda state: state,
    lambda state: {"state_dict": state, "epoch": 7, "optimizer": {"lr": 0.1}},
    lambda state: {"model": state},
    lambda state: {"model": {"state_dict": state}, "arch": "cnn"},
    prefixed("module."),
    prefixed("_orig_mod."),
    prefixed("module._orig_mod."),
    lambda state: {"state_dict": prefixed("_orig_mod.module.")(state)},
]


@pytest.mark.parametrize("nest", NESTINGS)
@pytest.mark.parametrize("bare", [True, False])
def test_the_shapes_that_training_scripts_write(tmp_path: Path, nest: Callable[[Any], Any], bare: bool) -> None:
    source, target = model(1), model(2, mean=0.9)
    torch.save(nest(dict((source.network if bare else source).state_dict())), tmp_path / "weights.pt")
    load_checkpoint(target, tmp_path / "weights.pt")
    assert weights_hash(target.network) == weights_hash(source.network)
    # a bare network leaves the normalisation of the model alone, a whole model brings its own
    assert float(target.normalise.mean) == pytest.approx(0.9 if bare else 0.1)


def test_bare_weights_as_safetensors_and_into_a_model_without_normalisation(tmp_path: Path) -> None:
    source, target = model(1), model(2)
    save_file(dict(source.network.state_dict()), tmp_path / "bare.safetensors")
    load_checkpoint(target, tmp_path / "bare.safetensors")
    plain = CNN()(SHAPE, 10)
    load_checkpoint(plain, tmp_path / "bare.safetensors")
    assert weights_hash(target.network) == weights_hash(plain) == weights_hash(source.network)


def test_the_format_is_told_from_the_content(tmp_path: Path) -> None:
    source = model(1)
    save_weights(source, tmp_path / "weights.pt")
    torch.save(source.state_dict(), tmp_path / "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        target = model(2)
        load_checkpoint(target, tmp_path / name)
        assert weights_hash(target) == weights_hash(source)


def test_a_network_whose_own_names_begin_like_a_wrapper(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 3)

    source, target = Own(), Normalised(Normalise((0.0,), (1.0,), 1), Own())
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    load_checkpoint(target, tmp_path / "weights.pt")
    assert weights_hash(target.network) == weights_hash(source)


def test_counters_of_old_checkpoints_may_be_missing(tmp_path: Path) -> None:
    network = ResNet18()((3, 32, 32), 10)
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pt")
    target = ResNet18()((3, 32, 32), 10)
    load_checkpoint(target, tmp_path / "old.pt")
    assert weights_hash(target) == weights_hash(network)


class _Shell:
    """What a malicious pickle holds: reading it runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_a_pickle_that_needs_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    mark, file = tmp_path / "was run", tmp_path / "weights.pt"
    content = {"state_dict": model(1).state_dict(), "extra": _Shell(mark)}
    if how == "torch.save":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match=r"is refused: .*would run code.*safetensors"):
        load_checkpoint(model(2), file)
    assert not mark.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(model(1), tmp_path / "model.pt")
    with pytest.raises(UsageError, match=r"is refused.*Normalised"):
        load_checkpoint(model(2), tmp_path / "model.pt")


def test_mistakes_are_named_and_leave_the_model_as_it_was(tmp_path: Path) -> None:
    good = dict(model(1).network.state_dict())
    other_classes = dict(CNN()(SHAPE, 7).state_dict())
    missing = {name: value for name, value in good.items() if name != "0.bias"}
    renamed = {("7.wait" if name == "7.weight" else name): value for name, value in good.items()}
    files: dict[str, Any] = {
        r"other shapes: 7.weight is \(7, 100\) there and \(10, 100\) here": other_classes,
        r"1 of 8 names are missing \(0.bias\)": missing,
        r"7.wait; did you mean 7.weight": renamed,
        "Give --model the architecture": ResNet18()((3, 32, 32), 10).state_dict(),
        "holds a mapping of epoch, lr": {"epoch": 3, "lr": 0.1},
        "holds list": [torch.zeros(3)],
        "'epoch' is a int, not a tensor": {**good, "epoch": 3},
    }
    target = model(2)
    before = weights_hash(target)
    for words, content in files.items():
        torch.save(content, tmp_path / "weights.pt")
        with pytest.raises(UsageError, match=words) as caught:
            load_checkpoint(target, tmp_path / "weights.pt")
        assert str(tmp_path / "weights.pt") in str(caught.value)
        assert weights_hash(target) == before


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x80\x02", b"PK\x03\x04 cut", (40).to_bytes(8, "little") + b"{" * 50]
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"weights\.pt"):
        load_checkpoint(model(1), file)


def test_a_cut_file_of_each_format(tmp_path: Path) -> None:
    save_weights(model(1), tmp_path / "a.safetensors")
    torch.save(model(1).state_dict(), tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[:-1000])
        with pytest.raises(UsageError, match=name):
            load_checkpoint(model(2), file)
    with pytest.raises(UsageError, match="there is no such file"):
        load_checkpoint(model(2), tmp_path / "absent.pt")


def test_the_hash_is_of_the_content() -> None:
    first = model(1)
    assert weights_hash(first) == weights_hash(model(1)) != weights_hash(model(2))
    assert weights_hash(first.to(memory_format=torch.channels_last)) == weights_hash(model(1))
    for change in (
        lambda m: m.network[7].bias.data.__setitem__(3, m.network[7].bias[3] + 1e-6),
        lambda m: m.normalise.mean.add_(1e-6),
        lambda m: m.half(),
    ):
        changed = model(1)
        change(changed)
        assert weights_hash(changed) != weights_hash(first)


def test_the_hash_tells_names_and_shapes() -> None:
    def holding(**tensors: torch.Tensor) -> nn.Module:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return module

    a, b = torch.ones(4), torch.zeros(4)
    assert weights_hash(holding(p=a, q=b)) == weights_hash(holding(q=b, p=a))
    variants = {weights_hash(m) for m in (holding(p=a, q=b), holding(p=b, q=a), holding(p=a.reshape(2, 2), q=b))}
    assert len(variants) == 3
    assert weights_hash(holding(p=torch.empty(0), q=torch.tensor(True))) not in variants


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

        def set_extra_state(self, state: Any) -> None: ...

    with pytest.raises(UsageError, match="_extra_state"):
        save_weights(Odd(2, 2), tmp_path / "odd.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        first, second = nn.Linear(4, 4), nn.Linear(4, 4)
        second.weight = first.weight
        return nn.Sequential(first, second)

    source, target = tied(), tied()
    save_weights(source, tmp_path / "tied.safetensors")
    load_checkpoint(target, tmp_path / "tied.safetensors")
    assert weights_hash(target) == weights_hash(source)


def test_two_writers_and_a_reader_never_meet_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shared.safetensors"
    models = [model(seed) for seed in range(3)]
    known = {weights_hash(source) for source in models}
    save_weights(models[0], path)

    def write(source: nn.Module) -> None:
        for _ in range(40):
            save_weights(source, path)

    target, reads = model(9), 0
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, source) for source in models[1:]]
        while not all(writer.done() for writer in writers) or reads == 0:
            load_checkpoint(target, path)
            assert weights_hash(target) in known
            reads += 1
    for writer in writers:
        writer.result()
    assert [entry.name for entry in tmp_path.iterdir()] == ["shared.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    source = model(1)
    save_weights(source, path)

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space"):
            save_weights(model(2), path)
    target = model(3)
    load_checkpoint(target, path)
    assert weights_hash(target) == weights_hash(source)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
