"""What the adapters mend, and that every attack does its work on a trained network."""

from __future__ import annotations

import numpy as np
import pytest
import robustkit_art
import torch

from robustkit.contracts import Threat
from robustkit.host import Host
from robustkit.norms import distance
from robustkit.params import ParamError, UsageError

HOST = Host({"art": robustkit_art}, discover=False)
EPS = {"linf": 0.1, "l2": 1.0, "l1": 12.0, "l0": 30.0}


def run(text, subject, norm, eps=None, x=None, y=None):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - ART draws there
    attack = HOST.build("attack", f"art.{text}").value
    x = subject.x if x is None else x
    return attack(subject.model, x, subject.y if y is None else y, Threat(norm, EPS[norm] if eps is None else eps))


def fooled(subject, x_adv) -> int:
    with torch.no_grad():
        return int((subject.model(x_adv.float()).argmax(dim=1) != subject.y[: len(x_adv)]).sum())


@pytest.mark.parametrize(
    ("text", "norm", "least"),
    [
        ("fgsm", "linf", 10),
        ("fgsm_minimal:step_size=0.01", "linf", 10),
        ("bim:steps=20", "linf", 12),
        ("pgd:steps=20", "linf", 12),
        ("pgd:steps=20", "l2", 8),
        ("pgd_numpy:steps=20", "l2", 8),
        ("mifgsm:steps=20", "linf", 12),
        ("apgd:steps=20:restarts=1", "linf", 12),
        ("apgd:steps=20:restarts=1:loss_type=difference_logits_ratio", "l2", 8),
        ("acg:steps=20:restarts=1", "l2", 8),
        ("racg:steps=20:restarts=1", "l2", 8),
        ("apgd_deepfool_square:steps=20:restarts=1:queries=20", "linf", 12),
        ("feature_adversaries", "linf", 4),
        ("frame_saliency:steps=20", "linf", 12),
        ("universal_perturbation:attacker=fgsm:steps=2", "linf", 2),
        ("targeted_universal_perturbation:steps=2", "linf", 4),
        ("cw", "l2", 8),
        ("deepfool", "l2", 14),
        ("newton_fool", "l2", 6),
        ("low_pro_fool:steps=30", "l2", 8),
        ("jsma:theta=0.5", "l0", 12),
        ("square:queries=100", "linf", 4),
        ("simba:steps=60", "l2", 4),
        ("boundary:steps=5", "l2", 12),
        ("hop_skip_jump:steps=2:init_eval=20", "l2", 12),
        ("geoda:queries=1000:sub_dim=4", "linf", 8),
        ("sign_opt:steps=1:queries=100:k=5:num_trial=5", "l2", 8),
        ("spatial_transformation:num_translations=3:num_rotations=3", "l2", 6),
        ("shadow:steps=5:batch_size=8", "l2", 4),
        ("composite:steps=1:max_inner_iter=2", "l2", 8),
        ("adversarial_patch:steps=10", "l2", 3),
        ("adversarial_patch_numpy:steps=5", "l2", 1),
        ("laser_beam:steps=5:restarts=2", "l2", 1),
    ],
)
def test_fools_a_trained_network(text, norm, least, subject) -> None:
    assert fooled(subject, run(text, subject, norm)) >= least


@pytest.mark.parametrize(
    ("text", "norm", "samples"),
    [
        ("feature_adversaries_numpy:steps=2", "linf", 3),
        ("cw_linf:const_factor=8", "linf", 6),
        ("ead:steps=25:binary_search_steps=5", "l1", 2),
        ("zoo:steps=40:step_size=0.1:initial_const=10:use_resize=false", "l2", 2),
        ("vat:steps=1", "l2", 12),
        ("pixel:steps=5:th=5", "l0", 6),
        ("threshold:steps=10:th=80", "linf", 6),
        ("wasserstein:steps=15:conjugate_sinkhorn_max_iter=20:projected_sinkhorn_max_iter=20", "l2", 6),
        ("graphite_whitebox:steps=3:first_steps=3:num_xforms=3:num_patches_to_remove=20", "l2", 3),
        ("graphite_blackbox:queries=30:num_xforms_mask=5:num_xforms_boost=5:heat_patch_stride=4", "l2", 6),
    ],
)
def test_slow_ones_fool_some_of_a_few_samples(text, norm, samples, subject) -> None:
    assert fooled(subject, run(text, subject, norm, x=subject.x[:samples], y=subject.y[:samples])) >= 1


def test_graphite_ends_when_nothing_is_left_of_its_mask(subject) -> None:
    """ART's own loop would not: with `min_tr=0` every image is taken for a success, with an empty mask too."""
    text = "graphite_whitebox:min_tr=0:steps=1:first_steps=1:num_xforms=1:num_patches_to_remove=20"
    x_adv = run(text, subject, "l2", x=subject.x[:1], y=subject.y[:1])
    assert x_adv.shape == (1, 3, 16, 16)


def test_fgsm_is_the_sign_of_the_gradient(subject) -> None:
    """Closed form, with PyTorch alone."""
    x = subject.x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(subject.model(x), subject.y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    expected = (subject.x + 0.1 * gradient.sign()).clamp(0, 1)
    assert torch.allclose(run("fgsm", subject, "linf"), expected, atol=1e-6)


def test_tensors_and_arrays_take_the_same_steps(subject) -> None:
    for norm in ("linf", "l2"):
        apart = (run("pgd:steps=5", subject, norm) - run("pgd_numpy:steps=5", subject, norm)).abs().max()
        assert float(apart) < 1e-4


def test_targets_are_reached(subject) -> None:
    target = (subject.y + 1) % 10
    for text in ("pgd:steps=30:targeted=true", "cw:targeted=true", "jsma:theta=1:targeted=true"):
        x_adv = run(text, subject, "l0" if "jsma" in text else "l2", eps=4.0, y=target)
        with torch.no_grad():
            hit = subject.model(x_adv).argmax(dim=1) == target
        assert int(hit.sum()) >= 8, text


def test_what_is_adversarial_already_comes_back(subject) -> None:
    wrong = (subject.y + 1) % 10
    for text in ("deepfool", "hop_skip_jump:steps=1", "shadow:steps=1:batch_size=2", "jsma"):
        norm = "l0" if text == "jsma" else "l2"
        assert torch.equal(run(text, subject, norm, y=wrong), subject.x), text


def test_unseeded_generators_follow_the_seed(subject) -> None:
    part = {"x": subject.x[:3], "y": subject.y[:3]}
    for text in ("hop_skip_jump:steps=2:init_eval=10", "boundary:steps=3"):
        assert torch.equal(run(text, subject, "l2", **part), run(text, subject, "l2", **part)), text


def test_one_sample_without_a_start_costs_no_other(subject) -> None:
    """A network for which every random image is of class 0: HopSkipJump and GeoDA find no start for class 0."""

    class Stubborn(torch.nn.Module):
        def forward(self, x):
            noisy = (x[..., 1:] - x[..., :-1]).abs().flatten(1).mean(dim=1) > 0.01
            return torch.stack([noisy.float(), 1 - noisy.float()], dim=1) + 0 * x.flatten(1).sum(dim=1, keepdim=True)

    x = torch.full((2, 3, 16, 16), 0.5)
    x[0, :, :, ::2] = 0.9
    model, y = Stubborn().eval(), torch.tensor([0, 1])
    for text in ("hop_skip_jump:steps=1:init_eval=5", "geoda:queries=1000:sub_dim=4", "boundary:steps=2"):
        torch.manual_seed(0)
        x_adv = HOST.build("attack", f"art.{text}").value(model, x, y, Threat("l2", 1.0))
        assert torch.equal(x_adv[0], x[0]), text
        with torch.no_grad():
            assert int(model(x_adv)[1].argmax()) == 0, text


def test_geoda_writes_no_file_and_numpy_is_as_before(subject, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("geoda:queries=1000:sub_dim=4", subject, "l2", x=subject.x[:1], y=subject.y[:1])
    assert not list(tmp_path.iterdir())
    from art.attacks.evasion import geometric_decision_based_attack as module

    assert module.np is np
    assert module.os.__name__ == "os"


def test_no_hook_no_gradient_no_frozen_parameter_is_left(subject) -> None:
    run("feature_adversaries:layer=3:steps=2", subject, "linf")
    run("pgd:steps=2", subject, "linf")
    assert not any(module._forward_hooks for module in subject.model.modules())
    assert all(p.grad is None and p.requires_grad for p in subject.model.parameters())
    with pytest.raises(RuntimeError):
        run("pgd:steps=2", subject, "linf", x=subject.x[:, :1])
    assert all(p.requires_grad for p in subject.model.parameters())


def test_features_of_a_layer_come_nearer_to_the_guides(subject) -> None:
    x_adv = run("feature_adversaries:layer=3", subject, "linf", eps=0.2)
    seen = []
    hook = subject.model[3].register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad():
        for x in (subject.x, x_adv):
            subject.model(x)
    hook.remove()
    guide = seen[0][1]  # the first sample of another class than sample 0's
    assert int(subject.y[0]) != int(subject.y[1])
    before, after = (seen[0][0] - guide).norm(), (seen[1][0] - guide).norm()
    assert float(after) < 0.8 * float(before)
    with pytest.raises(UsageError, match="no submodule 'nine'"):
        run("feature_adversaries:layer=nine", subject, "linf")


def test_shape_and_channels_that_do_not_fit_are_refused(subject) -> None:
    grey = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10)).eval()
    x, y = subject.x[:2, :1], subject.y[:2]
    for name in ("composite", "laser_beam"):
        with pytest.raises(UsageError, match="1 channels, not 3"):
            HOST.build("attack", f"art.{name}").value(grey, x, y, Threat("l2", 1.0))
    for name in ("geoda", "simba"):
        with pytest.raises(UsageError, match="square"):
            HOST.build("attack", f"art.{name}").value(grey, x[..., :8], y, Threat("l2", 1.0))
    with pytest.raises(ParamError, match="parts"):
        HOST.build("attack", "art.composite:parts=hue+taste")


def test_two_classes(subject) -> None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2)).eval()
    with torch.no_grad():
        y = model(subject.x).argmax(dim=1)
    for text in ("pgd:steps=5", "deepfool", "apgd:steps=5:restarts=1", "jsma", "cw"):
        norm = "l0" if text == "jsma" else "l2"
        x_adv = HOST.build("attack", f"art.{text}").value(model, subject.x, y, Threat(norm, 2.0))
        with torch.no_grad():
            assert bool((model(x_adv).argmax(dim=1) != y).any()), text
    with pytest.raises(UsageError, match="at least 3 classes"):
        attack = HOST.build("attack", "art.apgd:loss_type=difference_logits_ratio").value
        attack(model, subject.x, y, Threat("l2", 1.0))


def test_pixels_that_were_not_chosen_stay_to_the_last_bit(subject) -> None:
    x_adv = run("pixel:steps=5:th=3", subject, "l0", x=subject.x[:4], y=subject.y[:4])
    assert float(distance(x_adv, subject.x[:4], "l0").max()) <= 9


def test_eps_of_zero_changes_nothing(subject) -> None:
    for text in ("pgd:steps=2", "fgsm", "square:queries=5", "feature_adversaries:steps=2"):
        assert torch.equal(run(text, subject, "linf", eps=0.0), subject.x), text
