"""ART's defenses, certifier, detectors and poison as entries: strings only, nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.hookspecs import CertifierEntry, DefenseEntry, DetectorEntry, PoisonEntry
from robustkit_art.attack_rows import ART

_BPDA = "The gradient that attacks see is an estimate (identity through the step, as in ART)."
_IGNORED = "Gradients ignore it, as in ART: it hides scores and protects against no perturbation."
_PLAIN = "ART trains in float32 on arrays in memory, without augmentation, ramp, averaged weights or resume."


def wrapping() -> Iterator[DefenseEntry]:
    for name, target, summary, obfuscates, needs, notes in (
        ("jpeg", "preprocessing:JPEG", "JPEG compression of the input.", True, "pillow", _BPDA),
        ("feature_squeezing", "preprocessing:FeatureSqueezing", "Fewer grey levels in the input.", True, "", _BPDA),
        ("spatial_smoothing", "preprocessing:SpatialSmoothing", "A median filter on the input.", False, "kornia", ""),
        ("total_variation", "preprocessing:TotalVariation", "The smoothest image near random pixels.", True, "",
         f"{_BPDA} It draws random pixels at every pass."),
        ("gaussian_noise_input", "preprocessing:GaussianNoiseInput", "Gaussian noise on the input.", True, "",
         "It draws noise at every pass: average gradients over several."),
        ("reverse_sigmoid", "postprocessing:ReverseSigmoid", "Bent probabilities.", True, "", _IGNORED),
        ("rounded", "postprocessing:Rounded", "Rounded probabilities.", True, "", _IGNORED),
        ("high_confidence", "postprocessing:HighConfidence", "Only high probabilities are told.", True, "", _IGNORED),
        ("class_labels", "postprocessing:ClassLabels", "Only the class is told.", True, "", _IGNORED),
        ("gaussian_noise_output", "postprocessing:GaussianNoiseOutput", "Noise on the probabilities.", True, "",
         _IGNORED),
    ):  # fmt: skip
        yield DefenseEntry(
            name=name,
            target=f"robustkit_art.{target}",
            summary=summary,
            needs=f"{ART} {needs}".strip(),
            notes=notes,
            trains=False,
            obfuscates=obfuscates,
        )


def training() -> Iterator[DefenseEntry]:
    for name, target, summary, paper in (
        ("adversarial_training", "trainers:AdversarialTraining", "Adversarial training on a share of each batch.",
         "https://arxiv.org/abs/1706.06083"),
        ("madry_pgd", "trainers:MadryPGD", "Adversarial training on PGD examples.", "https://arxiv.org/abs/1706.06083"),
        ("fbf", "trainers:FBF", "Fast is better than free: random start and one step.",
         "https://arxiv.org/abs/2001.03994"),
        ("trades", "trainers:TRADES", "Cross-entropy and divergence (TRADES).", "https://arxiv.org/abs/1901.08573"),
        ("awp", "trainers:AWP", "Adversarial weight perturbation.", "https://arxiv.org/abs/2004.05884"),
        ("cutout", "augmented:Cutout", "Training with squares cut out.", "https://arxiv.org/abs/1708.04552"),
        ("mixup", "augmented:Mixup", "Training on mixed images and labels.", "https://arxiv.org/abs/1710.09412"),
        ("cutmix", "augmented:CutMix", "Training on images with a part of another.",
         "https://arxiv.org/abs/1905.04899"),
        ("label_smoothing", "augmented:LabelSmoothing", "Training on softened labels.", ""),
        ("gaussian_augmentation", "augmented:GaussianAugmentation", "Training on noisy copies beside the images.",
         "https://arxiv.org/abs/1707.06728"),
        ("dp_instahide", "augmented:DPInstaHide", "Training on mixed images with noise, against poison.",
         "https://arxiv.org/abs/2103.02079"),
    ):  # fmt: skip
        yield DefenseEntry(
            name=name, target=f"robustkit_art.{target}", summary=summary, paper=paper, needs=ART, notes=_PLAIN
        )


def certifiers() -> Iterator[CertifierEntry]:
    yield CertifierEntry(
        name="randomized_smoothing",
        target="robustkit_art.smoothing:RandomizedSmoothing",
        summary="Certified l2 radii of the classifier under Gaussian noise.",
        paper="https://arxiv.org/abs/1902.02918",
        needs=ART,
        norms=frozenset({"l2"}),
    )


def detectors() -> Iterator[DetectorEntry]:
    yield DetectorEntry(
        name="activation_defence",
        target="robustkit_art.detectors:ActivationDefence",
        summary="Clusters of activations within each class.",
        paper="https://arxiv.org/abs/1811.03728",
        needs=ART,
        scope="dataset",
    )
    yield DetectorEntry(
        name="spectral_signatures",
        target="robustkit_art.detectors:SpectralSignatures",
        summary="Outliers along the first singular vector of a class's activations.",
        paper="https://arxiv.org/abs/1811.00636",
        needs=ART,
        notes="Flags a fixed share of every class; compare scores.",
        scope="dataset",
    )
    yield DetectorEntry(
        name="roni",
        target="robustkit_art.detectors:RONI",
        summary="Reject on negative impact: samples whose training costs accuracy.",
        needs=ART,
        notes="Judges a few samples alone; each costs a fit of the network.",
        scope="dataset",
    )


def poisons() -> Iterator[PoisonEntry]:
    yield PoisonEntry(
        name="backdoor",
        target="robustkit_art.poisons:Backdoor",
        summary="A pattern on some training images, with the attacker's label (BadNets).",
        paper="https://arxiv.org/abs/1708.06733",
        needs=ART,
    )
