"""foolbox's fixed-budget attacks as entries: strings only, nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.contracts import Norm
from robustkit.hookspecs import AttackEntry

_LP: frozenset[Norm] = frozenset({"linf", "l2", "l1"})
_WEAK_L1 = (
    "In l1 the gradient is divided by its l1 norm, which is not the steepest direction of that ball: "
    "robust accuracies in l1 come out too high."
)
_LAST = "Returns its last iterate, not the best."


def gradient() -> Iterator[AttackEntry]:
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
        notes=f"The default 40 steps of eps / 30 come to 1.33 eps, which doesn't take a random start across the ball "
        f"(50 steps of eps / 40 in l2 and l1). {_LAST} {_WEAK_L1}",
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


def budget() -> Iterator[AttackEntry]:
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
