import pytest

from robustkit import testing

robustkit_template = pytest.importorskip("robustkit_template", reason="install it: pip install --editable .")


@testing.parametrize(robustkit_template)
def test_conformance(check):
    check()
