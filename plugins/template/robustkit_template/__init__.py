from robustkit import AttackEntry, CertifierEntry, DefenseEntry, DetectorEntry, hookimpl

AT = "robustkit_template.components:"


@hookimpl
def robustkit_attacks():
    norms, what = frozenset({"linf", "l2"}), "One step along the gradient."
    yield AttackEntry(name="onestep", target=AT + "OneStep", summary=what, norms=norms, deterministic=True)


@hookimpl
def robustkit_defenses():
    yield DefenseEntry(name="blur", target=AT + "Blur", summary="Blurs inputs.", trains=False)


@hookimpl
def robustkit_certifiers():
    what = "Randomized smoothing, tested for the label alone."
    yield CertifierEntry(name="smooth", target=AT + "Smooth", summary=what, norms=frozenset({"l2"}))


@hookimpl
def robustkit_detectors():
    what = "A class that attracts more images than it has."
    yield DetectorEntry(name="attraction", target=AT + "Attraction", summary=what, scope="model")
