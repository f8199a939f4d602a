"""Which of ART's classes each entry stands for, and why the others are left out.

Every class that `art.attacks.evasion` 1.20.1 exports is in exactly one of the two, a test holds that against the
library; `LaserBeamAttack` comes besides, from `art.attacks.evasion.laser_attack.laser_attack`.
"""

from __future__ import annotations

from collections.abc import Mapping

COVERS: Mapping[str, tuple[str, ...]] = {
    "fgsm": ("FastGradientMethod",),
    "fgsm_minimal": ("FastGradientMethod",),
    "bim": ("BasicIterativeMethod",),
    "pgd": ("ProjectedGradientDescent", "ProjectedGradientDescentPyTorch"),
    "pgd_numpy": ("ProjectedGradientDescentNumpy",),
    "mifgsm": ("MomentumIterativeMethod",),
    "apgd": ("AutoProjectedGradientDescent",),
    "acg": ("AutoConjugateGradient",),
    "racg": ("RescalingAutoConjugateGradient",),
    "apgd_deepfool_square": ("AutoAttack",),
    "feature_adversaries": ("FeatureAdversariesPyTorch",),
    "feature_adversaries_numpy": ("FeatureAdversariesNumpy",),
    "frame_saliency": ("FrameSaliencyAttack",),
    "universal_perturbation": ("UniversalPerturbation",),
    "targeted_universal_perturbation": ("TargetedUniversalPerturbation",),
    "cw": ("CarliniL2Method",),
    "cw_linf": ("CarliniLInfMethod",),
    "deepfool": ("DeepFool",),
    "newton_fool": ("NewtonFool",),
    "ead": ("ElasticNet",),
    "jsma": ("SaliencyMapMethod",),
    "low_pro_fool": ("LowProFool",),
    "brendel_bethge": ("BrendelBethgeAttack",),
    "square": ("SquareAttack",),
    "simba": ("SimBA",),
    "zoo": ("ZooAttack",),
    "vat": ("VirtualAdversarialMethod",),
    "pixel": ("PixelAttack",),
    "threshold": ("ThresholdAttack",),
    "boundary": ("BoundaryAttack",),
    "hop_skip_jump": ("HopSkipJump",),
    "geoda": ("GeoDA",),
    "sign_opt": ("SignOPTAttack",),
    "spatial_transformation": ("SpatialTransformation",),
    "shadow": ("ShadowAttack",),
    "wasserstein": ("Wasserstein",),
    "composite": ("CompositeAdversarialAttackPyTorch",),
    "adversarial_patch": ("AdversarialPatch", "AdversarialPatchPyTorch"),
    "adversarial_patch_numpy": ("AdversarialPatchNumpy",),
    "graphite_blackbox": ("GRAPHITEBlackbox",),
    "graphite_whitebox": ("GRAPHITEWhiteboxPyTorch",),
    "laser_beam": ("LaserAttack", "LaserBeamAttack"),
}

_TENSORFLOW = "for TensorFlow models only"
_SPEECH = "attacks speech recognition"
_DETECTION = "attacks object detectors"

UNSUPPORTED: Mapping[str, str] = {
    "CarliniL0Method": "stops after as many eliminations as the image has channels, so that nearly all values stay "
    "changed: its result is no l0 minimum",
    "AdversarialPatchTensorFlowV2": _TENSORFLOW,
    "FeatureAdversariesTensorFlowV2": _TENSORFLOW,
    "ProjectedGradientDescentTensorFlowV2": _TENSORFLOW,
    "MalwareGDTensorFlow": "attacks malware classifiers on bytes, in TensorFlow",
    "CarliniWagnerASR": _SPEECH,
    "ImperceptibleASR": _SPEECH,
    "ImperceptibleASRPyTorch": _SPEECH,
    "AdversarialTexturePyTorch": "attacks object trackers on video",
    "OverTheAirFlickeringPyTorch": "attacks video classifiers: it needs a time axis",
    "DPatch": _DETECTION,
    "RobustDPatch": _DETECTION,
    "OverloadPyTorch": _DETECTION,
    "SNAL": _DETECTION,
    "DecisionTreeAttack": "attacks scikit-learn's decision trees",
    "HighConfidenceLowUncertainty": "attacks Gaussian processes of GPy",
}
