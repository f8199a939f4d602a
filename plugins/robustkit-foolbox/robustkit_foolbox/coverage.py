"""Which of foolbox's attack classes each entry stands for, and why the others are left out.

Every class that `foolbox.attacks` 3.3.4 exports is in exactly one of the two; a test holds that against the
library.
"""

from __future__ import annotations

from collections.abc import Mapping

COVERS: Mapping[str, tuple[str, ...]] = {
    "fgsm": ("LinfFastGradientAttack", "L2FastGradientAttack", "L1FastGradientAttack"),
    "bim": ("LinfBasicIterativeAttack", "L2BasicIterativeAttack", "L1BasicIterativeAttack"),
    "pgd": (
        "LinfProjectedGradientDescentAttack",
        "L2ProjectedGradientDescentAttack",
        "L1ProjectedGradientDescentAttack",
    ),
    "mifgsm": (
        "LinfMomentumIterativeFastGradientMethod",
        "L2MomentumIterativeFastGradientMethod",
        "L1MomentumIterativeFastGradientMethod",
    ),
    "adam_bim": ("LinfAdamBasicIterativeAttack", "L2AdamBasicIterativeAttack", "L1AdamBasicIterativeAttack"),
    "adam_pgd": (
        "LinfAdamProjectedGradientDescentAttack",
        "L2AdamProjectedGradientDescentAttack",
        "L1AdamProjectedGradientDescentAttack",
    ),
    "sparse_l1_descent": ("SparseL1DescentAttack",),
    "vat": ("VirtualAdversarialAttack",),
    "gen_attack": ("GenAttack",),
    "contrast_reduction": ("L2ContrastReductionAttack",),
    "gaussian_noise": (
        "L2AdditiveGaussianNoiseAttack",
        "L2RepeatedAdditiveGaussianNoiseAttack",
        "L2ClippingAwareAdditiveGaussianNoiseAttack",
        "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
    ),
    "uniform_noise": (
        "LinfAdditiveUniformNoiseAttack",
        "LinfRepeatedAdditiveUniformNoiseAttack",
        "L2AdditiveUniformNoiseAttack",
        "L2RepeatedAdditiveUniformNoiseAttack",
        "L2ClippingAwareAdditiveUniformNoiseAttack",
        "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
    ),
    "ddn": ("DDNAttack",),
    "cw": ("L2CarliniWagnerAttack",),
    "ead": ("EADAttack",),
    "deepfool": ("L2DeepFoolAttack", "LinfDeepFoolAttack"),
    "fmn": ("LInfFMNAttack", "L2FMNAttack", "L1FMNAttack", "L0FMNAttack"),
    "brendel_bethge": (
        "LinfinityBrendelBethgeAttack",
        "L2BrendelBethgeAttack",
        "L1BrendelBethgeAttack",
        "L0BrendelBethgeAttack",
    ),
    "boundary": ("BoundaryAttack",),
    "hop_skip_jump": ("HopSkipJumpAttack",),
    "pointwise": ("PointwiseAttack",),
    "salt_and_pepper": ("SaltAndPepperNoiseAttack",),
    "dataset": ("DatasetAttack",),
    "contrast_binary": ("BinarySearchContrastReductionAttack",),
    "contrast_linear": ("LinearSearchContrastReductionAttack",),
    "gaussian_blur": ("GaussianBlurAttack",),
    "inversion": ("InversionAttack",),
    "blended_noise": ("LinearSearchBlendedUniformNoiseAttack",),
    "spatial": ("SpatialAttack",),
    "binarization_refinement": ("BinarizationRefinementAttack",),
}

UNSUPPORTED: Mapping[str, str] = {
    "NewtonFoolAttack": "returns NaN: it divides by the square of a squared norm, which is 0 in float32",
}
