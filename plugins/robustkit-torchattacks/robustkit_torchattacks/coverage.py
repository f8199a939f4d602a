"""Which class of torchattacks is which entry, and which are none."""

from __future__ import annotations

UNSUPPORTED = {
    "MultiAttack": "composes attacks of one model; a bench's worst case over all its attacks, and --cascade, do "
    "the same for attacks of every library",
    "LGV": "trains copies of the model on the training set before it attacks, and an attack is given no training "
    "set; it also moves the data to the first GPU whenever there is one, wherever the model is",
}
"""Classes of torchattacks that are no entry here, with the reason."""

WRAPS = {
    "vanila": "VANILA",
    "gn": "GN",
    "fgsm": "FGSM",
    "bim": "BIM",
    "rfgsm": "RFGSM",
    "pgd": "PGD",
    "eotpgd": "EOTPGD",
    "ffgsm": "FFGSM",
    "tpgd": "TPGD",
    "mifgsm": "MIFGSM",
    "upgd": "UPGD",
    "apgd": "APGD",
    "apgdt": "APGDT",
    "difgsm": "DIFGSM",
    "tifgsm": "TIFGSM",
    "jitter": "Jitter",
    "nifgsm": "NIFGSM",
    "pgdrs": "PGDRS",
    "sinifgsm": "SINIFGSM",
    "vmifgsm": "VMIFGSM",
    "vnifgsm": "VNIFGSM",
    "spsa": "SPSA",
    "jsma": "JSMA",
    "eadl1": "EADL1",
    "eaden": "EADEN",
    "pifgsm": "PIFGSM",
    "pifgsmpp": "PIFGSMPP",
    "cw": "CW",
    "pgdl2": "PGDL2",
    "deepfool": "DeepFool",
    "pgdrsl2": "PGDRSL2",
    "sparsefool": "SparseFool",
    "onepixel": "OnePixel",
    "pixle": "Pixle",
    "fab": "FAB",
    "square": "Square",
    "apgd_fab_square_10": "AutoAttack",
}
"""Entry → class of torchattacks."""
