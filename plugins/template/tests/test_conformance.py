import robustkit_template

from robustkit import testing


@testing.parametrize(robustkit_template)
def test_conformance(check):
    check()
