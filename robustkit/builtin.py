"""The built-in plugin: a table of what RobustKit brings itself. Strings only, nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.contracts import Norm
from robustkit.hookspecs import AttackEntry, CertifierEntry, DatasetEntry, DefenseEntry, ModelEntry, hookimpl

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
        norms=frozenset({"linf", "l2"}),
        knowledge="score",
        targeted=True,
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
        summary="Certified training on interval bounds, for the certifier interval.",
        paper="https://arxiv.org/abs/1810.12715",
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
        name="npz",
        target="robustkit.data.npz:Npz",
        summary="Arrays x and y in an npz file: npz:PATH.",
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
