"""Rows only: listing a plugin imports nothing but `robustkit.hookspecs`."""

from robustkit import hookspecs as h

_AT = "robustkit_template.components:"


@h.hookimpl
def robustkit_attacks():
    norms = frozenset({"linf", "l2"})
    yield h.AttackEntry(name="corner", target=_AT + "Corner", summary="One gradient step.", norms=norms, deterministic=True)


@h.hookimpl
def robustkit_defenses():
    yield h.DefenseEntry(name="rounding", target=_AT + "Rounding", summary="Rounded inputs.", trains=False, obfuscates=True)


@h.hookimpl
def robustkit_certifiers():
    yield h.CertifierEntry(
        name="linear_margin", target=_AT + "LinearMargin", summary="Exact l2.", norms={"l2"}, probabilistic=False
    )


@h.hookimpl
def robustkit_detectors():
    yield h.DetectorEntry(name="accuracy", target=_AT + "Accuracy", summary="Low accuracy.", scope="model")
