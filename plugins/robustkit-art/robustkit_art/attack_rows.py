"""ART's attacks as entries: strings only, nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from robustkit.contracts import Norm
from robustkit.hookspecs import AttackEntry

ART = "adversarial-robustness-toolbox"
_LAST = "Returns the last iterate, not the best."
_NO_L1 = "ART's l1 step moves one value that the box then cuts and so uses a fraction of eps; l1 is not offered."
_BATCH = "One perturbation for the whole batch: the result depends on which samples are attacked together."
_TARGETED_ONLY = "ART's is targeted only; untargeted it aims at the second most likely class."


def _row(
    name: str,
    where: str,
    summary: str,
    *norms: Norm,
    paper: str = "",
    knowledge: Literal["white-box", "score", "decision"] = "white-box",
    goal: Literal["budget", "minimal"] = "budget",
    targeted: bool = False,
    deterministic: bool = False,
    needs: str = "",
    notes: str = "",
) -> AttackEntry:
    """An entry whose target is `robustkit_art.WHERE`; `needs` comes on top of ART."""
    return AttackEntry(
        name=name,
        target=f"robustkit_art.{where}",
        summary=summary,
        paper=paper,
        needs=f"{ART} {needs}".strip(),
        notes=notes,
        norms=frozenset(norms),
        knowledge=knowledge,
        goal=goal,
        targeted=targeted,
        deterministic=deterministic,
    )


def gradient() -> Iterator[AttackEntry]:
    """In a ball, along the gradient."""
    yield _row("fgsm", "gradient:FGSM", "One step of eps along the gradient: FGSM in linf, FGM in l2.", "linf", "l2",
               paper="https://arxiv.org/abs/1412.6572", targeted=True, notes=_NO_L1)  # fmt: skip
    yield _row("fgsm_minimal", "gradient:FGSMMinimal", "The smallest multiple of a step along one gradient.",
               "linf", "l2", paper="https://arxiv.org/abs/1412.6572", goal="minimal", targeted=True,
               deterministic=True)  # fmt: skip
    yield _row("bim", "gradient:BIM", "Basic iterative method: steps of the sign from the clean input.", "linf",
               paper="https://arxiv.org/abs/1607.02533", targeted=True, deterministic=True, notes=_LAST)  # fmt: skip
    yield _row("pgd", "gradient:PGD", "Projected gradient descent.", "linf", "l2",
               paper="https://arxiv.org/abs/1706.06083", targeted=True, notes=f"{_LAST} {_NO_L1}")  # fmt: skip
    yield _row("pgd_numpy", "gradient:PGDNumpy", "Projected gradient descent on NumPy arrays.", "linf", "l2",
               paper="https://arxiv.org/abs/1706.06083", targeted=True, notes=f"{_LAST} {_NO_L1}")  # fmt: skip
    yield _row("mifgsm", "gradient:MIFGSM", "Iterated steps with momentum on the gradient (MI-FGSM).", "linf", "l2",
               paper="https://arxiv.org/abs/1710.06081", targeted=True, deterministic=True,
               notes=f"{_LAST} {_NO_L1}")  # fmt: skip
    yield _row("apgd", "auto:APGD", "Auto-PGD: a step that is halved where progress stops.", "linf", "l2",
               paper="https://arxiv.org/abs/2003.01690", targeted=True,
               notes=f"{_LAST} Its results differ from the reference, which returns the best.")  # fmt: skip
    yield _row("acg", "auto:ACG", "Auto conjugate gradient.", "l2", paper="https://arxiv.org/abs/2206.09628",
               targeted=True, notes="Not offered in linf, where ART never applies the sign of the direction. " + _LAST
               )  # fmt: skip
    yield _row("racg", "auto:RACG", "Auto conjugate gradient with a rescaled direction.", "l2",
               targeted=True, notes="Not offered in linf, where ART never applies the sign of the direction. " + _LAST
               )  # fmt: skip
    yield _row("apgd_deepfool_square", "ensemble:APGDDeepFoolSquare",
               "APGD twice, DeepFool and Square in turn, each on the survivors (ART's AutoAttack).", "linf", "l2",
               paper="https://arxiv.org/abs/2003.01690", needs="multiprocess",
               notes="What ART calls AutoAttack; published AutoAttack numbers come from other members.")  # fmt: skip
    yield _row("feature_adversaries", "features:FeatureAdversaries",
               "Moves a sample's representation to that of another class.", "linf",
               paper="https://arxiv.org/abs/1511.05122", targeted=True,
               notes="Guides are other samples of the batch; matching them need not fool the model.")  # fmt: skip
    yield _row("feature_adversaries_numpy", "features:FeatureAdversariesNumpy",
               "The same by L-BFGS with numerical gradients.", "linf", paper="https://arxiv.org/abs/1511.05122",
               knowledge="score", targeted=True,
               notes="A forward pass for each value of the image in each iteration.")  # fmt: skip
    yield _row("frame_saliency", "features:FrameSaliency", "Perturbs one channel after another.", "linf", "l2",
               paper="https://arxiv.org/abs/1811.11875",
               notes="Made for video; on images it is its inner attack on as few channels as suffice.")  # fmt: skip
    yield _row("universal_perturbation", "universal:UniversalPerturbation", "One perturbation for the batch.",
               "linf", "l2", paper="https://arxiv.org/abs/1610.08401", notes=_BATCH)  # fmt: skip
    yield _row("targeted_universal_perturbation", "universal:TargetedUniversalPerturbation",
               "One perturbation that moves the batch to a class.", "linf", "l2",
               paper="https://arxiv.org/abs/1911.06502", targeted=True, notes=_BATCH)  # fmt: skip


def minimum_norm() -> Iterator[AttackEntry]:
    """The nearest adversarial point, along the gradient."""
    yield _row("cw", "minimum_norm:CW", "Carlini and Wagner's l2 attack in tanh space.", "l2",
               paper="https://arxiv.org/abs/1608.04644", goal="minimal", targeted=True)  # fmt: skip
    yield _row("cw_linf", "minimum_norm:CWLinf", "Carlini and Wagner's linf attack: a bound that shrinks.", "linf",
               paper="https://arxiv.org/abs/1608.04644", goal="minimal",
               notes="Many thousand passes a sample. ART's targeted mode keeps failures and is not offered."
               )  # fmt: skip
    yield _row("deepfool", "minimum_norm:DeepFool", "Steps to the nearest boundary of the linearised model.", "l2",
               paper="https://arxiv.org/abs/1511.04599", goal="minimal", deterministic=True,
               notes="Starts from the predicted class; looks at the nb_grads most likely classes.")  # fmt: skip
    yield _row("newton_fool", "minimum_norm:NewtonFool", "Newton steps that lower the predicted class.", "l2",
               paper="https://doi.org/10.1145/3134600.3134635", goal="minimal", deterministic=True)  # fmt: skip
    yield _row("ead", "minimum_norm:EAD", "Elastic-net attack: l1 and l2 penalised together.", "l1",
               paper="https://arxiv.org/abs/1709.04114", goal="minimal", targeted=True, deterministic=True,
               notes="At the default budget it fails on most samples, which come back unchanged.")  # fmt: skip
    yield _row("jsma", "minimum_norm:JSMA", "The two most salient values at a time.", "l0",
               paper="https://arxiv.org/abs/1511.07528", goal="minimal", targeted=True,
               notes="Untargeted it draws a target class at random.")  # fmt: skip
    yield _row("low_pro_fool", "reshaped:LowProFool", "Descent on loss and norm, made for tables.", "l2",
               paper="https://arxiv.org/abs/1911.03274", goal="minimal", targeted=True, deterministic=True,
               notes=_TARGETED_ONLY)  # fmt: skip
    yield _row("brendel_bethge", "brendel_bethge:BrendelBethge",
               "Follows the decision boundary with a trust-region solver.", "linf", "l2", "l1", "l0",
               paper="https://arxiv.org/abs/1907.01003", goal="minimal", targeted=True, needs="numba",
               notes="Compiles its solver for about half a minute in every process.")  # fmt: skip


def black_box() -> Iterator[AttackEntry]:
    """With scores or decisions alone."""
    yield _row("square", "score:Square", "Random squares, kept where the margin falls.", "linf", "l2",
               paper="https://arxiv.org/abs/1912.00049", knowledge="score")  # fmt: skip
    yield _row("simba", "score:SimBA", "Steps along single values or frequencies.", "l2",
               paper="https://arxiv.org/abs/1905.07121", knowledge="score", goal="minimal",
               targeted=True)  # fmt: skip
    yield _row("zoo", "score:ZOO", "Coordinate descent on estimated gradients.", "l2",
               paper="https://arxiv.org/abs/1708.03999", knowledge="score", goal="minimal", targeted=True,
               notes="At the default budget it fails on most samples, which come back unchanged.")  # fmt: skip
    yield _row("vat", "score:VAT", "Virtual adversarial direction, by finite differences.", "l2",
               paper="https://arxiv.org/abs/1507.00677", knowledge="score",
               notes="Labels are unused. A forward pass for each value of the image in each iteration.")  # fmt: skip
    yield _row("pixel", "pixels:Pixel", "The fewest pixels whose colours fool the model.", "l0",
               paper="https://arxiv.org/abs/1906.06026", knowledge="score", goal="minimal",
               targeted=True)  # fmt: skip
    yield _row("threshold", "pixels:Threshold", "The least change of all values that fools the model.", "linf",
               paper="https://arxiv.org/abs/1906.06026", knowledge="score", goal="minimal", targeted=True,
               needs="cma")  # fmt: skip
    yield _row("boundary", "decision:Boundary", "Random walk along the decision boundary.", "l2",
               paper="https://arxiv.org/abs/1712.04248", knowledge="decision", goal="minimal",
               targeted=True)  # fmt: skip
    yield _row("hop_skip_jump", "decision:HopSkipJump", "Gradient at the boundary estimated from decisions.",
               "linf", "l2", paper="https://arxiv.org/abs/1904.02144", knowledge="decision", goal="minimal",
               targeted=True)  # fmt: skip
    yield _row("geoda", "decision:GeoDA", "The boundary's normal estimated in low frequencies.", "linf", "l2",
               paper="https://arxiv.org/abs/2003.06468", knowledge="decision", goal="minimal")  # fmt: skip
    yield _row("sign_opt", "decision:SignOPT", "Descends on the distance to the boundary by signs of queries.",
               "l2", paper="https://arxiv.org/abs/1909.10773", knowledge="decision", goal="minimal")  # fmt: skip


def unbounded() -> Iterator[AttackEntry]:
    """That obey no Lp ball and are scored by the distance they end at."""
    yield _row("spatial_transformation", "universal:SpatialTransformation",
               "The one rotation and shift that fools most of the batch.", paper="https://arxiv.org/abs/1712.02779",
               knowledge="decision", goal="minimal", notes=_BATCH)  # fmt: skip
    yield _row("shadow", "unbounded:Shadow", "A smooth, nearly grey perturbation.",
               paper="https://arxiv.org/abs/2003.08937", goal="minimal", targeted=True)  # fmt: skip
    yield _row("wasserstein", "unbounded:Wasserstein", "Moves mass between neighbouring pixels.",
               paper="https://arxiv.org/abs/1902.07906", goal="minimal", targeted=True,
               notes="regularization is 100, not ART's 3000, which overflows.")  # fmt: skip
    yield _row("composite", "composite:Composite", "Hue, saturation, rotation, brightness, contrast and linf.",
               paper="https://arxiv.org/abs/2202.04235", goal="minimal", needs="kornia",
               notes="Colour images only.")  # fmt: skip
    yield _row("adversarial_patch", "patch:AdversarialPatch", "One patch for the batch.",
               paper="https://arxiv.org/abs/1712.09665", goal="minimal", targeted=True, needs="torchvision",
               notes=_BATCH)  # fmt: skip
    yield _row("adversarial_patch_numpy", "patch:AdversarialPatchNumpy", "One patch for the batch, on arrays.",
               paper="https://arxiv.org/abs/1712.09665", goal="minimal", targeted=True, needs="torchvision",
               notes=_BATCH)  # fmt: skip
    yield _row("graphite_blackbox", "graphite:GraphiteBlackbox", "Stickers that survive transformations, by decisions.",
               paper="https://arxiv.org/abs/2002.07088", knowledge="decision", goal="minimal", targeted=True,
               needs="opencv-python-headless kornia", notes=_TARGETED_ONLY)  # fmt: skip
    yield _row("graphite_whitebox", "graphite:GraphiteWhitebox", "Stickers that survive transformations, by gradients.",
               paper="https://arxiv.org/abs/2002.07088", goal="minimal", targeted=True,
               needs="opencv-python-headless kornia", notes=_TARGETED_ONLY)  # fmt: skip
    yield _row("laser_beam", "reshaped:LaserBeam", "A beam of light across the image.",
               paper="https://arxiv.org/abs/2103.06504", knowledge="score", goal="minimal",
               notes="Colour images only.")  # fmt: skip
