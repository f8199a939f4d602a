"""foolbox in RobustKit: entries only. Importing this imports no foolbox."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.contracts import Norm
from robustkit.hookspecs import AttackEntry, hookimpl
from robustkit_foolbox.coverage import COVERS, UNSUPPORTED

__all__ = ["COVERS", "UNSUPPORTED"]

_LP: frozenset[Norm] = frozenset({"linf", "l2", "l1"})
_ALL: frozenset[Norm] = frozenset({"linf", "l2", "l1", "l0"})
_WEAK_L1 = (
    "In l1 the gradient is divided by its l1 norm, which is not the steepest direction of that ball: "
    "robust accuracies in l1 come out too high."
)
_LAST = "Returns its last iterate, not the best."
_PATH = "Moves along one fixed path: the distance it ends at is no minimum in any norm."


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    yield from _gradient()
    yield from _budget()
    yield from _minimum_norm()
    yield from _decision()
    yield from _paths()


def _gradient() -> Iterator[AttackEntry]:
    yield AttackEntry(
        name="fgsm",
        target="robustkit_foolbox.gradient_descent:FGSM",
        summary="One step of eps along the gradient: FGSM in linf, FGM in l2 and l1.",
        paper="https://arxiv.org/abs/1412.6572",
        needs="foolbox",
        norms=_LP,
        notes=_WEAK_L1,
    )
    yield AttackEntry(
        name="bim",
        target="robustkit_foolbox.gradient_descent:BIM",
        summary="Basic iterative method: projected steps from the clean input.",
        paper="https://arxiv.org/abs/1607.02533",
        needs="foolbox",
        norms=_LP,
        targeted=True,
        notes=f"{_LAST} {_WEAK_L1}",
    )
    yield AttackEntry(
        name="pgd",
        target="robustkit_foolbox.gradient_descent:PGD",
        summary="Projected gradient descent from a random start.",
        paper="https://arxiv.org/abs/1706.06083",
        needs="foolbox",
        norms=_LP,
        targeted=True,
        notes=f"{_LAST} {_WEAK_L1}",
    )
    yield AttackEntry(
        name="mifgsm",
        target="robustkit_foolbox.gradient_descent:MIFGSM",
        summary="Iterated steps with momentum on the gradient (MI-FGSM).",
        paper="https://arxiv.org/abs/1710.06081",
        needs="foolbox",
        norms=_LP,
        targeted=True,
        notes=f"{_LAST} {_WEAK_L1}",
    )
    yield AttackEntry(
        name="adam_bim",
        target="robustkit_foolbox.gradient_descent:AdamBIM",
        summary="Basic iterative method with Adam on the normalised gradient.",
        paper="https://arxiv.org/abs/1412.6980",
        needs="foolbox",
        norms=_LP,
        targeted=True,
        notes=f"{_LAST} {_WEAK_L1}",
    )
    yield AttackEntry(
        name="adam_pgd",
        target="robustkit_foolbox.gradient_descent:AdamPGD",
        summary="Projected gradient descent with Adam on the normalised gradient.",
        paper="https://arxiv.org/abs/1412.6980",
        needs="foolbox",
        norms=_LP,
        targeted=True,
        notes=f"{_LAST} {_WEAK_L1}",
    )
    yield AttackEntry(
        name="sparse_l1_descent",
        target="robustkit_foolbox.budget:SparseL1Descent",
        summary="Steps in l1 that move the few values with the largest gradient.",
        paper="https://arxiv.org/abs/1904.13000",
        needs="foolbox",
        norms=frozenset({"l1"}),
        targeted=True,
        notes=_LAST,
    )


def _budget() -> Iterator[AttackEntry]:
    yield AttackEntry(
        name="vat",
        target="robustkit_foolbox.budget:VAT",
        summary="Virtual adversarial direction: where the prediction changes fastest.",
        paper="https://arxiv.org/abs/1507.00677",
        needs="foolbox",
        norms=frozenset({"l2"}),
        notes="Unused labels: a misclassified input may come back corrected. The library's xi=1e-6 gives NaN on "
        "certain predictions; the default here is 1e-2, and a vanished direction is an error.",
    )
    yield AttackEntry(
        name="gen_attack",
        target="robustkit_foolbox.budget:GenAttack",
        summary="Genetic search on scores.",
        paper="https://arxiv.org/abs/1805.11090",
        needs="foolbox",
        norms=frozenset({"linf"}),
        knowledge="score",
        targeted=True,
        notes="The library's is targeted only; untargeted it aims at the second most likely class.",
    )
    yield AttackEntry(
        name="contrast_reduction",
        target="robustkit_foolbox.budget:ContrastReduction",
        summary="Moves the image towards grey by eps, without asking the model.",
        needs="foolbox",
        norms=frozenset({"l2"}),
        knowledge="decision",
        deterministic=True,
    )
    yield AttackEntry(
        name="gaussian_noise",
        target="robustkit_foolbox.noise:GaussianNoise",
        summary="Gaussian noise of size eps, the first draw that fools the model.",
        needs="foolbox",
        norms=frozenset({"l2"}),
        knowledge="decision",
        targeted=True,
    )
    yield AttackEntry(
        name="uniform_noise",
        target="robustkit_foolbox.noise:UniformNoise",
        summary="Uniform noise of size eps, the first draw that fools the model.",
        needs="foolbox",
        norms=frozenset({"linf", "l2"}),
        knowledge="decision",
        targeted=True,
        notes="In linf the library scales by the largest value instead of the largest absolute one and leaves the "
        "ball slightly; the adapter projects.",
    )


def _minimum_norm() -> Iterator[AttackEntry]:
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


def _decision() -> Iterator[AttackEntry]:
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


def _paths() -> Iterator[AttackEntry]:
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
