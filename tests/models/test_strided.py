from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.models.strided import Strided


@settings(deadline=None, max_examples=40)
@given(
    channels=st.integers(1, 3),
    stride=st.integers(1, 3),
    multiple=st.integers(1, 3),
    padding=st.integers(0, 2),
    height=st.integers(9, 14),
    width=st.integers(9, 14),
)
def test_it_is_the_convolution_of_torch_with_its_gradients(
    channels: int, stride: int, multiple: int, padding: int, height: int, width: int
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = Strided(channels, 4, stride * multiple, stride=stride, padding=padding).double()
        x = torch.rand(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    theirs = torch.nn.Conv2d(channels, 4, stride * multiple, stride=stride, padding=padding).double()
    theirs.load_state_dict(ours.state_dict())
    found, expected = ours(x), theirs(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for output, layer in ((found, ours), (expected, theirs)):
        layer.gradients = torch.autograd.grad(output.square().sum(), [x, layer.weight, layer.bias])
    torch.testing.assert_close(ours.gradients, theirs.gradients, rtol=1e-11, atol=1e-11)


def test_memory_formats_and_one_sample() -> None:
    ours = Strided(3, 8, 4, stride=2, padding=1)
    x = torch.rand(1, 3, 32, 32)
    expected = F.conv2d(x, ours.weight, ours.bias, stride=2, padding=1)
    turned = ours.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(turned, expected)


def test_a_kernel_that_is_no_multiple_of_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of stride=2"):
        Strided(1, 1, 3, stride=2)
