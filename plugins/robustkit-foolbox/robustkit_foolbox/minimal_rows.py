"""foolbox's minimum-norm attacks as entries: strings only, nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.contracts import Norm
from robustkit.hookspecs import AttackEntry

_ALL: frozenset[Norm] = frozenset({"linf", "l2", "l1", "l0"})
_WEAK_L1 = (
    "In l1 the gradient is divided by its l1 norm, which is not the steepest direction of that ball: "
    "robust accuracies in l1 come out too high."
)
_PATH = "Moves along one fixed path: the distance it ends at is no minimum in any norm."


def minimum_norm() -> Iterator[AttackEntry]:
    yield AttackEntry(
        name="ddn",
        target="robustkit_foolbox.minimum_norm:DDN",
        summary="Decoupled direction and norm: a radius that follows success and failure.",
        paper="https://arxiv.org/abs/1811.09600",
        needs="foolbox",
        norms=frozenset({"l2"}),
        goal="minimal",
        targeted=True,
        deterministic=True,
    )
    yield AttackEntry(
        name="cw",
        target="robustkit_foolbox.minimum_norm:CW",
        summary="Carlini and Wagner's l2 attack in tanh space.",
        paper="https://arxiv.org/abs/1608.04644",
        needs="foolbox",
        norms=frozenset({"l2"}),
        goal="minimal",
        targeted=True,
        notes="Stopping early looks at the loss of the whole batch. 10000 steps for each of 9 constants by default.",
    )
    yield AttackEntry(
        name="ead",
        target="robustkit_foolbox.minimum_norm:EAD",
        summary="Elastic-net attack: l1 and l2 penalised together.",
        paper="https://arxiv.org/abs/1709.04114",
        needs="foolbox",
        norms=frozenset({"l1"}),
        goal="minimal",
        targeted=True,
        notes="Stopping early looks at the loss of the whole batch. 10000 steps for each of 9 constants by default.",
    )
    yield AttackEntry(
        name="deepfool",
        target="robustkit_foolbox.minimum_norm:DeepFool",
        summary="Steps to the nearest boundary of the linearised model.",
        paper="https://arxiv.org/abs/1511.04599",
        needs="foolbox",
        norms=frozenset({"linf", "l2"}),
        goal="minimal",
        notes="Starts from the predicted class; looks at the 10 most likely classes unless candidates=none.",
    )
    yield AttackEntry(
        name="fmn",
        target="robustkit_foolbox.minimum_norm:FMN",
        summary="Fast minimum-norm attack in every norm.",
        paper="https://arxiv.org/abs/2102.12827",
        needs="foolbox",
        norms=_ALL,
        goal="minimal",
        targeted=True,
        notes="In l2 the library's projection divides a norm by itself and never shrinks anything: distances come "
        "out up to twice those of ddn. Prefer ddn in l2.",
    )
    yield AttackEntry(
        name="brendel_bethge",
        target="robustkit_foolbox.brendel_bethge:BrendelBethge",
        summary="Follows the decision boundary with a trust-region solver.",
        paper="https://arxiv.org/abs/1907.01003",
        needs="foolbox numba",
        norms=_ALL,
        goal="minimal",
        targeted=True,
        notes="Compiles its solver for about half a minute in every process.",
    )


def decision() -> Iterator[AttackEntry]:
    yield AttackEntry(
        name="boundary",
        target="robustkit_foolbox.decision:Boundary",
        summary="Random walk along the decision boundary.",
        paper="https://arxiv.org/abs/1712.04248",
        needs="foolbox",
        norms=frozenset({"l2"}),
        knowledge="decision",
        goal="minimal",
        targeted=True,
        notes="25000 steps by default; samples of a batch share their random directions.",
    )
    yield AttackEntry(
        name="hop_skip_jump",
        target="robustkit_foolbox.decision:HopSkipJump",
        summary="Gradient at the boundary estimated from decisions.",
        paper="https://arxiv.org/abs/1904.02144",
        needs="foolbox",
        norms=frozenset({"linf", "l2"}),
        knowledge="decision",
        goal="minimal",
        targeted=True,
        notes="In l2 the library normalises by the whole batch's gradient, so each sample is attacked alone.",
    )
    yield AttackEntry(
        name="pointwise",
        target="robustkit_foolbox.decision:Pointwise",
        summary="Takes back one changed value after another from an adversarial start.",
        paper="https://arxiv.org/abs/1805.09190",
        needs="foolbox",
        norms=frozenset({"l0", "l2"}),
        knowledge="decision",
        goal="minimal",
        targeted=True,
    )
    yield AttackEntry(
        name="salt_and_pepper",
        target="robustkit_foolbox.decision:SaltAndPepper",
        summary="Ever more black and white pixels, the nearest that fools the model.",
        needs="foolbox",
        norms=frozenset({"l2"}),
        knowledge="decision",
        goal="minimal",
        targeted=True,
    )
    yield AttackEntry(
        name="dataset",
        target="robustkit_foolbox.decision:Dataset",
        summary="Another image of the batch that fools the model: a ceiling for every distance.",
        needs="foolbox",
        norms=frozenset(),
        knowledge="decision",
        goal="minimal",
        targeted=True,
        notes="Draws from the batch it attacks.",
    )


def paths() -> Iterator[AttackEntry]:
    for name, attribute, summary, deterministic in (
        ("contrast_binary", "ContrastBinary", "Least loss of contrast, by binary search.", True),
        ("contrast_linear", "ContrastLinear", "Least loss of contrast, by linear search.", True),
        ("gaussian_blur", "GaussianBlur", "Least Gaussian blur, by linear search.", True),
        ("inversion", "Inversion", "The negative of the image.", True),
        ("blended_noise", "BlendedNoise", "Blends the image with a random one until it is misclassified.", False),
    ):
        yield AttackEntry(
            name=name,
            target=f"robustkit_foolbox.corruption:{attribute}",
            summary=summary,
            needs="foolbox",
            norms=frozenset(),
            knowledge="decision",
            goal="minimal",
            targeted=True,
            deterministic=deterministic,
            notes=_PATH,
        )
    yield AttackEntry(
        name="spatial",
        target="robustkit_foolbox.corruption:Spatial",
        summary="Rotations and shifts, on a grid or random.",
        paper="https://arxiv.org/abs/1712.02779",
        needs="foolbox",
        norms=frozenset(),
        knowledge="decision",
        goal="minimal",
        targeted=True,
        notes=_PATH,
    )
    yield AttackEntry(
        name="binarization_refinement",
        target="robustkit_foolbox.corruption:BinarizationRefinement",
        summary="Refines adversarial images for networks that binarize their input.",
        needs="foolbox",
        norms=frozenset(),
        knowledge="decision",
        goal="minimal",
        targeted=True,
        notes="Raises on a network that does not binarize at the given threshold.",
    )
