"""The built-in plugin: a table of what RobustKit brings itself. Strings only, nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.contracts import Norm
from robustkit.hookspecs import (
    AttackEntry,
    CertifierEntry,
    DatasetEntry,
    DefenseEntry,
    DetectorEntry,
    ModelEntry,
    PoisonEntry,
    hookimpl,
)

_LP: frozenset[Norm] = frozenset({"linf", "l2", "l1"})


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    yield AttackEntry(
        name="noise",
        target="robustkit.attacks.noise:Noise",
        summary="Random noise in the ball, best of several draws: a floor for every other attack.",
        norms=_LP,
        knowledge="score",
    )
    yield AttackEntry(
        name="fgsm",
        target="robustkit.attacks.fgsm:FGSM",
        summary="One step along the gradient: sign for linf (FGSM), normalised for l2 (FGM).",
        paper="https://arxiv.org/abs/1412.6572",
        norms=_LP,
        targeted=True,
        deterministic=True,
    )
    yield AttackEntry(
        name="rfgsm",
        target="robustkit.attacks.rfgsm:RFGSM",
        summary="A random step, then one along the gradient (R+FGSM).",
        paper="https://arxiv.org/abs/1705.07204",
        norms=_LP,
        targeted=True,
    )
    yield AttackEntry(
        name="bim",
        target="robustkit.attacks.bim:BIM",
        summary="Iterated FGSM from the clean input (I-FGSM).",
        paper="https://arxiv.org/abs/1607.02533",
        norms=_LP,
        targeted=True,
        deterministic=True,
    )
    yield AttackEntry(
        name="pgd",
        target="robustkit.attacks.pgd:PGD",
        summary="Projected gradient descent from random starts.",
        paper="https://arxiv.org/abs/1706.06083",
        norms=_LP,
        targeted=True,
    )
    yield AttackEntry(
        name="adaptive",
        target="robustkit.attacks.adaptive:Adaptive",
        summary="PGD with a loss of your own, and gradients averaged over random draws (EOT).",
        paper="https://arxiv.org/abs/2002.08347",
        norms=_LP,
        targeted=True,
    )
    yield AttackEntry(
        name="evade",
        target="robustkit.attacks.evade:Evade",
        summary="PGD that knows a detector of inputs: misclassified, and not suspicious.",
        paper="https://arxiv.org/abs/2106.15023",
        norms=_LP,
    )
    yield AttackEntry(
        name="mifgsm",
        target="robustkit.attacks.mifgsm:MIFGSM",
        summary="Iterated FGSM with momentum on the gradient (MI-FGSM).",
        paper="https://arxiv.org/abs/1710.06081",
        norms=_LP,
        targeted=True,
        deterministic=True,
    )
    yield AttackEntry(
        name="apgd",
        target="robustkit.attacks.apgd:APGD",
        summary="Auto-PGD: momentum, and steps that shrink where the loss stalls.",
        paper="https://arxiv.org/abs/2003.01690",
        norms=_LP,
        targeted=True,
    )
    yield AttackEntry(
        name="square",
        target="robustkit.attacks.square:Square",
        summary="Random search by squares, with scores alone.",
        paper="https://arxiv.org/abs/1912.00049",
        norms=_LP,
        knowledge="score",
        targeted=True,
    )
    for name, title, paper in (
        ("nes", "NES", "https://arxiv.org/abs/1804.08598"),
        ("spsa", "SPSA", "https://arxiv.org/abs/1802.05666"),
    ):
        yield AttackEntry(
            name=name,
            target=f"robustkit.attacks.score_gradient:{title}",
            summary=f"{title}: gradient steps, the gradient estimated from scores alone.",
            paper=paper,
            norms=frozenset({"linf", "l2"}),
            knowledge="score",
            targeted=True,
        )
    yield AttackEntry(
        name="hopskipjump",
        target="robustkit.attacks.hopskipjump:HopSkipJump",
        summary="The nearest adversarial point, along the decision boundary, with decisions alone.",
        paper="https://arxiv.org/abs/1904.02144",
        norms=frozenset({"linf", "l2"}),
        knowledge="decision",
        goal="minimal",
    )
    yield AttackEntry(
        name="transfer",
        target="robustkit.attacks.transfer:Transfer",
        summary="Examples made on a surrogate network, trained for it, or on weights of yours.",
        paper="https://arxiv.org/abs/1605.07277",
        notes="Sees nothing of the attacked network. Passes through the surrogate are not counted.",
        norms=_LP,
        knowledge="decision",
    )
    yield AttackEntry(
        name="ddn",
        target="robustkit.attacks.ddn:DDN",
        summary="The nearest adversarial point in l2, by a sphere that shrinks and grows.",
        paper="https://arxiv.org/abs/1811.09600",
        norms=frozenset({"l2"}),
        goal="minimal",
        targeted=True,
        deterministic=True,
    )
    yield AttackEntry(
        name="fmn",
        target="robustkit.attacks.fmn:FMN",
        summary="The nearest adversarial point in any norm, by a ball that shrinks and grows.",
        paper="https://arxiv.org/abs/2102.12827",
        norms=frozenset({"linf", "l2", "l1", "l0"}),
        goal="minimal",
        targeted=True,
        deterministic=True,
    )
    yield AttackEntry(
        name="deepfool",
        target="robustkit.attacks.deepfool:DeepFool",
        summary="Steps to the nearest boundary of the linearised model.",
        paper="https://arxiv.org/abs/1511.04599",
        norms=frozenset({"linf", "l2"}),
        goal="minimal",
        deterministic=True,
    )
    yield AttackEntry(
        name="cw",
        target="robustkit.attacks.cw:CW",
        summary="The nearest adversarial point in l2, by Adam on a weighted sum.",
        paper="https://arxiv.org/abs/1608.04644",
        norms=frozenset({"l2"}),
        goal="minimal",
        targeted=True,
        deterministic=True,
    )
    yield AttackEntry(
        name="fab",
        target="robustkit.attacks.fab:FAB",
        summary="The nearest adversarial point, by projections onto the linearised boundary.",
        paper="https://arxiv.org/abs/1907.02044",
        norms=_LP,
        goal="minimal",
    )
    yield AttackEntry(
        name="autoattack",
        target="robustkit.attacks.autoattack:AutoAttack",
        summary="AutoAttack: APGD-CE, APGD-T, FAB-T and Square, each on what is left; and a short form.",
        paper="https://arxiv.org/abs/2003.01690",
        notes="Published numbers are of form=standard with its own steps and queries. Needs 4 classes.",
        norms=_LP,
    )
    yield AttackEntry(
        name="linear_exact",
        target="robustkit.attacks.linear_exact:LinearExact",
        summary="The exact worst case of a linear classifier, in closed form: the yardstick.",
        norms=frozenset({"linf", "l2", "l1", "l0"}),
        deterministic=True,
    )


@hookimpl
def robustkit_defenses() -> Iterator[DefenseEntry]:
    yield DefenseEntry(
        name="standard",
        target="robustkit.defenses.standard:Standard",
        summary="Ordinary training: the undefended baseline.",
    )
    yield DefenseEntry(
        name="fgsm_at",
        target="robustkit.defenses.fgsm_at:FGSMAT",
        summary="Adversarial training on single-step examples.",
        paper="https://arxiv.org/abs/1412.6572",
    )
    yield DefenseEntry(
        name="rfgsm_at",
        target="robustkit.defenses.rfgsm_at:RFGSMAT",
        summary="Adversarial training on randomised single-step examples.",
        paper="https://arxiv.org/abs/1705.07204",
    )
    yield DefenseEntry(
        name="fast_at",
        target="robustkit.defenses.fast_at:FastAT",
        summary="Fast adversarial training: FGSM from a random start, a step of 1.25 eps.",
        paper="https://arxiv.org/abs/2001.03994",
    )
    yield DefenseEntry(
        name="nfgsm",
        target="robustkit.defenses.nfgsm:NFGSM",
        summary="Single-step adversarial training from stronger noise, not clipped to the ball.",
        paper="https://arxiv.org/abs/2202.01181",
    )
    yield DefenseEntry(
        name="pgd_at",
        target="robustkit.defenses.pgd_at:PGDAT",
        summary="Adversarial training on projected gradient descent examples.",
        paper="https://arxiv.org/abs/1706.06083",
    )
    yield DefenseEntry(
        name="free_at",
        target="robustkit.defenses.free_at:FreeAT",
        summary="Free adversarial training: weights and perturbation share one backward pass.",
        paper="https://arxiv.org/abs/1904.12843",
        notes="Costs at most 1.15 times what standard training costs for the same epochs, and needs more of them: on "
        "mnist_10k --recipe epochs=64:lr=0.005 reaches pgd_at's robust accuracy in about its time.",
    )
    yield DefenseEntry(
        name="mixed_at",
        target="robustkit.defenses.mixed_at:MixedAT",
        summary="Batches mixed from clean, FGSM and PGD examples in given shares.",
        paper="https://arxiv.org/abs/1611.01236",
    )
    yield DefenseEntry(
        name="union_at",
        target="robustkit.defenses.union_at:UnionAT",
        summary="PGD training against several norms at once, the worst example or all of them.",
        paper="https://arxiv.org/abs/1904.13000",
        notes="Needs the radius of another ball than the threat model's: union_at:l2=0.5.",
    )
    yield DefenseEntry(
        name="ensemble_at",
        target="robustkit.defenses.ensemble_at:EnsembleAT",
        summary="Adversarial training on the examples of another, fixed network.",
        paper="https://arxiv.org/abs/1705.07204",
        notes="Holds against what transfers, less against attacks that see the network.",
    )
    yield DefenseEntry(
        name="trades",
        target="robustkit.defenses.trades:TRADES",
        summary="Clean cross-entropy, and a divergence of clean and adversarial predictions.",
        paper="https://arxiv.org/abs/1901.08573",
    )
    yield DefenseEntry(
        name="mart",
        target="robustkit.defenses.mart:MART",
        summary="Adversarial training that weighs what is misclassified.",
        paper="https://openreview.net/forum?id=rklOg6EFwS",
    )
    yield DefenseEntry(
        name="linear_at",
        target="robustkit.defenses.linear_at:LinearAT",
        summary="Adversarial training of linear classifiers, the worst case in closed form.",
        paper="https://jmlr.org/papers/v10/xu09b.html",
        notes="For networks that are affine in their input: model=linear.",
    )
    yield DefenseEntry(
        name="ibp_at",
        target="robustkit.defenses.ibp_at:IBPAT",
        summary="Certified training on bounds (CROWN-IBP or IBP), for the certifiers interval and crown_ibp.",
        paper="https://arxiv.org/abs/1906.06316",
        notes="Give eps a long ramp: on mnist_10k --recipe epochs=20:lr=0.001:ramp=0.6:augment=none.",
    )
    yield DefenseEntry(
        name="noise",
        target="robustkit.defenses.noise:NoiseTraining",
        summary="Training on Gaussian noise, for randomized smoothing.",
        paper="https://arxiv.org/abs/1902.02918",
    )
    yield DefenseEntry(
        name="smooth_adv",
        target="robustkit.defenses.smooth_adv:SmoothAdv",
        summary="Adversarial training on noise, for randomized smoothing.",
        paper="https://arxiv.org/abs/1906.04584",
    )
    yield DefenseEntry(
        name="consistency",
        target="robustkit.defenses.consistency:Consistency",
        summary="Training on noise that makes predictions agree, for randomized smoothing.",
        paper="https://arxiv.org/abs/2006.04062",
    )
    yield DefenseEntry(
        name="macer",
        target="robustkit.defenses.macer:MACER",
        summary="Training on noise that enlarges the certified radius, for randomized smoothing.",
        paper="https://arxiv.org/abs/2001.02378",
    )
    yield DefenseEntry(
        name="quantise",
        target="robustkit.defenses.quantise:Quantise",
        summary="Fewer grey levels in front of the trained network.",
        paper="https://arxiv.org/abs/1704.01155",
        notes="Gradients pass it by BPDA, unless bpda=false.",
        trains=False,
        obfuscates=True,
    )
    yield DefenseEntry(
        name="random_resize_pad",
        target="robustkit.defenses.random_resize_pad:RandomResizePad",
        summary="Random resizing and padding in front of the trained network.",
        paper="https://arxiv.org/abs/1711.01991",
        notes="Gradients are averaged over draws (EOT), unless eot=1.",
        trains=False,
        obfuscates=True,
    )
    yield DefenseEntry(
        name="unlearn_trigger",
        target="robustkit.defenses.unlearn_trigger:UnlearnTrigger",
        summary="Backdoors: training on the reversed trigger with true labels.",
        paper="https://doi.org/10.1109/SP.2019.00031",
        trains=False,
    )
    yield DefenseEntry(
        name="fine_prune",
        target="robustkit.defenses.fine_prune:FinePrune",
        summary="Backdoors: channels that sleep on clean images off, then training.",
        paper="https://arxiv.org/abs/1805.12185",
        trains=False,
    )
    yield DefenseEntry(
        name="clp",
        target="robustkit.defenses.clp:CLP",
        summary="Backdoors: channels with an outlying Lipschitz bound off; no data.",
        paper="https://arxiv.org/abs/2208.03111",
        trains=False,
    )


@hookimpl
def robustkit_certifiers() -> Iterator[CertifierEntry]:
    yield CertifierEntry(
        name="smoothing",
        target="robustkit.certifiers.smoothing:Smoothing",
        summary="Randomized smoothing, by default with as few samples as each input needs.",
        paper="https://arxiv.org/abs/1902.02918",
        norms=_LP,
    )
    yield CertifierEntry(
        name="linear",
        target="robustkit.certifiers.linear:Linear",
        summary="The exact radius of a linear classifier, in closed form, in any norm.",
        norms=frozenset({"linf", "l2", "l1", "l0"}),
        probabilistic=False,
        notes="For networks that are affine in their input: model=linear.",
    )
    yield CertifierEntry(
        name="interval",
        target="robustkit.certifiers.interval:IntervalBounds",
        summary="Interval bounds through a sequential or residual ReLU network (IBP).",
        paper="https://arxiv.org/abs/1810.12715",
        norms=frozenset({"linf"}),
        probabilistic=False,
        notes="Loose but for networks that were trained for it.",
    )
    yield CertifierEntry(
        name="crown_ibp",
        target="robustkit.certifiers.crown_ibp:CrownIBP",
        summary="Backward linear bounds through interval bounds (CROWN-IBP): tighter than interval, slower.",
        paper="https://arxiv.org/abs/1906.06316",
        norms=frozenset({"linf"}),
        probabilistic=False,
    )


@hookimpl
def robustkit_detectors() -> Iterator[DetectorEntry]:
    yield DetectorEntry(
        name="neural_cleanse",
        target="robustkit.detectors.neural_cleanse:NeuralCleanse",
        summary="The smallest trigger of every class, all classes in one batch.",
        paper="https://doi.org/10.1109/SP.2019.00031",
        notes="Made for small patches; triggers over the whole image and backdoors of all classes escape the index.",
        scope="model",
    )
    yield DetectorEntry(
        name="mmbd",
        target="robustkit.detectors.mmbd:MMBD",
        summary="The largest margin of each class over all inputs; no data needed.",
        paper="https://arxiv.org/abs/2205.06900",
        scope="model",
        access="weights",
    )
    yield DetectorEntry(
        name="last_layer",
        target="robustkit.detectors.last_layer:LastLayer",
        summary="The last linear layer's rows alone, in milliseconds: a screen.",
        paper="https://arxiv.org/abs/2109.02836",
        scope="model",
        access="weights",
    )
    yield DetectorEntry(
        name="activation_clustering",
        target="robustkit.detectors.activation_clustering:ActivationClustering",
        summary="Two clusters of features in each class of the training set.",
        paper="https://arxiv.org/abs/1811.03728",
        scope="dataset",
        access="training_set",
    )
    yield DetectorEntry(
        name="spectral_signatures",
        target="robustkit.detectors.spectral_signatures:SpectralSignatures",
        summary="Outliers along the first singular vector of each class's features.",
        paper="https://arxiv.org/abs/1811.00636",
        scope="dataset",
        access="training_set",
    )
    yield DetectorEntry(
        name="strip",
        target="robustkit.detectors.strip:Strip",
        summary="Entropy of predictions while clean images are laid over an input.",
        paper="https://arxiv.org/abs/1902.06531",
        scope="input",
        access="run_time",
    )
    yield DetectorEntry(
        name="ibd_psc",
        target="robustkit.detectors.ibd_psc:IBDPSC",
        summary="Predictions that stand while the last BatchNorm layers are amplified.",
        paper="https://arxiv.org/abs/2405.09786",
        notes="For networks with BatchNorm. Made for deep ones; with a few such layers omega must be larger.",
        scope="input",
        access="run_time",
    )
    yield DetectorEntry(
        name="feature_squeezing",
        target="robustkit.detectors.feature_squeezing:FeatureSqueezing",
        summary="How far predictions move when an input loses its details.",
        paper="https://arxiv.org/abs/1704.01155",
        scope="input",
        access="run_time",
    )
    yield DetectorEntry(
        name="mahalanobis",
        target="robustkit.detectors.mahalanobis:Mahalanobis",
        summary="Distance of an input's features from every class.",
        paper="https://arxiv.org/abs/1807.03888",
        scope="input",
        access="run_time",
    )


@hookimpl
def robustkit_poisons() -> Iterator[PoisonEntry]:
    yield PoisonEntry(
        name="badnets",
        target="robustkit.poisons.badnets:BadNets",
        summary="A patch of one colour, or an image, at a fixed place.",
        paper="https://arxiv.org/abs/1708.06733",
    )
    yield PoisonEntry(
        name="blended",
        target="robustkit.poisons.blended:Blended",
        summary="A faint pattern over the whole image.",
        paper="https://arxiv.org/abs/1712.05526",
    )
    yield PoisonEntry(
        name="sig",
        target="robustkit.poisons.sig:SIG",
        summary="A sinusoid over images of the target class, no label changed.",
        paper="https://arxiv.org/abs/1902.11237",
    )
    yield PoisonEntry(
        name="wanet",
        target="robustkit.poisons.wanet:WaNet",
        summary="A smooth warp, hardly visible, and other warps that keep their labels.",
        paper="https://openreview.net/forum?id=eEn8KTtJOx",
    )


@hookimpl
def robustkit_datasets() -> Iterator[DatasetEntry]:
    yield DatasetEntry(
        name="mnist_10k",
        target="robustkit.data.mnist_10k:MNIST10k",
        summary="First 10,000 training and 2,000 test images of MNIST, shipped with RobustKit.",
    )
    for name, title in (
        ("mnist", "MNIST"),
        ("fashion_mnist", "Fashion-MNIST"),
        ("cifar10", "CIFAR-10"),
        ("cifar100", "CIFAR-100"),
        ("svhn", "SVHN"),
    ):
        yield DatasetEntry(
            name=name,
            target=f"robustkit.data.torchvision_sets:{title.replace('-', '')}",
            summary=f"{title}, read by torchvision from --data-dir, downloaded where a network exists.",
        )
    yield DatasetEntry(
        name="imagefolder",
        target="robustkit.data.imagefolder:ImageFolder",
        summary="Images in folders by class, streamed: imagefolder:PATH.",
    )
    yield DatasetEntry(
        name="webdataset",
        target="robustkit.data.webdataset:WebDataset",
        summary="Images in tar shards, read by place: webdataset:train-{000..146}.tar:test=val-{00..06}.tar.",
    )
    yield DatasetEntry(
        name="imagenet",
        target="robustkit.data.imagenet:ImageNet",
        summary="ImageNet or a part of it, or Restricted ImageNet, in folders by WordNet id: imagenet:PATH.",
        paper="https://arxiv.org/abs/1409.0575",
    )
    yield DatasetEntry(
        name="npz",
        target="robustkit.data.npz:Npz",
        summary="Arrays x and y in an npz file: npz:PATH.",
    )
    yield DatasetEntry(
        name="npy",
        target="robustkit.data.npy:Npy",
        summary="Arrays in npy files, read from disk as they are needed: npy:FOLDER.",
    )


@hookimpl
def robustkit_models() -> Iterator[ModelEntry]:
    for name, target, summary in (
        ("linear", "linear:Linear", "Softmax regression on pixels."),
        ("mlp", "mlp:MLP", "Fully connected network with ReLU."),
        ("cnn", "cnn:CNN", "Two convolutions (4 x 4, stride 2) and two linear layers: small and fast."),
        ("lenet5", "lenet5:LeNet5", "LeNet-5 with ReLU and max pooling."),
        ("preact_resnet18", "preact_resnet:PreActResNet18", "Pre-activation ResNet-18 for 32 x 32."),
        ("resnet18", "resnet:ResNet18", "ResNet-18 for 32 x 32 (3 x 3 stem, no pooling)."),
        ("resnet34", "resnet:ResNet34", "ResNet-34 for 32 x 32 (3 x 3 stem, no pooling)."),
        ("resnet50", "resnet:ResNet50", "ResNet-50 for 32 x 32 (3 x 3 stem, no pooling)."),
        ("wide_resnet", "wide_resnet:WideResNet", "Wide ResNet, 28-10 unless said otherwise."),
    ):
        yield ModelEntry(name=name, target=f"robustkit.models.{target}", summary=summary)
