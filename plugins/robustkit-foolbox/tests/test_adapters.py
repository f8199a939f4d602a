"""What the adapters mend, and that every attack does its work on a trained network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import robustkit_foolbox
import torch

from robustkit.contracts import Threat
from robustkit.host import Host
from robustkit.norms import distance

HOST = Host({"foolbox": robustkit_foolbox}, discover=False)
EPS = {"linf": 0.1, "l2": 1.0, "l1": 12.0, "l0": 30.0}


def run(text, subject, norm, eps=None, x=None, y=None):
    torch.manual_seed(0)
    attack = HOST.build("attack", f"foolbox.{text}").value
    x = subject.x if x is None else x
    return attack(subject.model, x, subject.y if y is None else y, Threat(norm, EPS[norm] if eps is None else eps))


def fooled(subject, x_adv) -> int:
    with torch.no_grad():
        return int((subject.model(x_adv.float()).argmax(dim=1) != subject.y).sum())


@pytest.mark.parametrize(
    ("text", "norm", "least"),
    [
        ("fgsm", "linf", 10),
        ("fgsm", "l2", 6),
        ("bim", "linf", 12),
        ("pgd", "linf", 12),
        ("pgd", "l2", 8),
        ("mifgsm", "l2", 8),
        ("adam_bim", "linf", 12),
        ("adam_pgd", "linf", 8),
        ("sparse_l1_descent", "l1", 8),
        ("gen_attack:steps=40", "linf", 1),
        ("ddn", "l2", 16),
        ("deepfool", "l2", 16),
        ("deepfool", "linf", 16),
        ("cw:steps=100", "l2", 14),
        ("ead:steps=100:binary_search_steps=6", "l1", 14),
        ("fmn", "linf", 14),
        ("fmn", "l0", 12),
        ("boundary:steps=200", "l2", 14),
        ("hop_skip_jump:steps=3:initial_gradient_eval_steps=20", "linf", 14),
        ("hop_skip_jump:steps=2:initial_gradient_eval_steps=20:stepsize_search=grid_search", "l2", 14),
        ("pointwise", "l0", 14),
        ("salt_and_pepper:steps=200", "l2", 12),
        ("dataset", "l2", 14),
        ("gaussian_blur:steps=40", "l2", 8),
        ("contrast_binary", "l2", 6),
        ("inversion", "l2", 10),
        ("blended_noise:steps=50", "l2", 14),
        ("spatial", "l2", 10),
    ],
)
def test_fools_a_trained_network(text, norm, least, subject) -> None:
    x_adv = run(text, subject, norm)
    assert fooled(subject, x_adv) >= least


def test_fgsm_is_the_sign_of_the_gradient(subject) -> None:
    """Closed form, with PyTorch alone."""
    x = subject.x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(subject.model(x), subject.y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    expected = (subject.x + 0.1 * gradient.sign()).clamp(0, 1)
    assert torch.allclose(run("fgsm", subject, "linf"), expected, atol=1e-6)


def test_minimal_attacks_find_less_than_fixed_paths(subject) -> None:
    near = distance(run("ddn", subject, "l2"), subject.x, "l2").median()
    far = distance(run("inversion", subject, "l2"), subject.x, "l2").median()
    assert near < 0.2 * far


def test_targets_are_reached(subject) -> None:
    target = (subject.y + 1) % 10
    for text in ("pgd:targeted=true", "ddn:targeted=true", "boundary:steps=50:targeted=true"):
        x_adv = run(text, subject, "l2", eps=4.0, y=target)
        with torch.no_grad():
            hit = subject.model(x_adv).argmax(dim=1) == target
        assert int(hit.sum()) >= 12, text


def test_what_is_adversarial_already_or_cannot_be_fooled_comes_back(subject) -> None:
    wrong = (subject.y + 1) % 10
    assert torch.equal(run("ddn", subject, "l2", y=wrong), subject.x)
    assert torch.equal(run("dataset", subject, "l2", x=subject.x[:1], y=subject.y[:1]), subject.x[:1])


def test_one_sample_without_a_start_costs_no_other(subject) -> None:
    """A network that knows one class on most inputs: noise finds no start there, and the library gives up on all."""

    class Stubborn(torch.nn.Module):
        def forward(self, x):
            dark = x.flatten(1).mean(dim=1) < 0.05
            return torch.stack([dark.float(), 1 - dark.float()], dim=1) + 0 * x.flatten(1).sum(dim=1, keepdim=True)

    x = torch.zeros(2, 3, 8, 8)
    x[1] = 0.6
    model, y = Stubborn().eval(), torch.tensor([0, 1])
    attack = HOST.build("attack", "foolbox.boundary:steps=5").value
    torch.manual_seed(0)
    x_adv = attack(model, x[1:], y[1:], Threat("l2", 1.0))
    assert torch.equal(x_adv, x[1:])
    x_adv = attack(model, x, y, Threat("l2", 1.0))
    assert float(x_adv[0].mean()) > 0.05


def test_restarts_attack_only_what_stands(subject) -> None:
    seen: list[int] = []
    hook = subject.model.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    try:
        run("pgd:steps=5:rel_stepsize=0.4:restarts=3", subject, "linf", eps=0.1)
    finally:
        hook.remove()
    assert seen[0] == 16
    assert seen[-1] < 16


def test_no_gradient_is_left_and_parameters_learn_again(subject) -> None:
    run("pgd:steps=2", subject, "linf")
    assert all(p.grad is None and p.requires_grad for p in subject.model.parameters())
    with pytest.raises(RuntimeError):
        run("pgd:steps=2", subject, "linf", x=subject.x[:, :1])
    assert all(p.requires_grad for p in subject.model.parameters())


def test_unmoved_values_stay_to_the_last_bit_in_float64(subject) -> None:
    x = subject.x.double() * (1 - 1e-9)
    model = subject.model.double()
    try:
        attack = HOST.build("attack", "foolbox.fmn").value
        x_adv = attack(model, x, subject.y, Threat("l0", 10.0))
    finally:
        subject.model.float()
    assert x_adv.dtype == torch.float64
    assert float(distance(x_adv, x, "l0").median()) < 100


class _Binarize(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model((x >= 0.5).float())


def test_binarization_refinement_shortens_the_way_of_a_thresholding_network(subject) -> None:
    model = _Binarize(subject.model).eval()
    with torch.no_grad():
        y = model(subject.x).argmax(dim=1)
    attack = HOST.build("attack", "foolbox.binarization_refinement").value
    torch.manual_seed(0)
    x_adv = attack(model, subject.x, y, Threat("l2", 1.0))
    blended = HOST.build("attack", "foolbox.blended_noise:steps=50").value
    torch.manual_seed(0)
    start = blended(model, subject.x, y, Threat("l2", 1.0))
    with torch.no_grad():
        assert int((model(x_adv).argmax(dim=1) != y).sum()) >= 14
    refined, before = distance(x_adv, subject.x, "l2"), distance(start, subject.x, "l2")
    assert float(refined.median()) < 0.8 * float(before.median())


def test_imports_where_no_git_is_installed(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import os; e = dict(os.environ); import robustkit_foolbox.bridge; "
         "assert e == dict(os.environ)"],
        env={**os.environ, "PATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-600:]
