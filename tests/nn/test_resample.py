"""Resampling of position tables: torch's, and by matrices where its gradient would differ from run to run."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from other_device import other_device

from iqametrics.bpclip.pooling import PositionEncoding
from iqametrics.nn.resample import bicubic

SIZES = [((7, 7), (11, 5), True), ((32, 1), (12, 1), False), ((3, 6), (6, 6), False), ((14, 14), (9, 20), True)]


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def operations(tensor):
    """The names of what a tensor was computed by."""
    found, left = set(), [tensor.grad_fn]
    while left:
        node = left.pop()
        if node is not None:
            found.add(type(node).__name__)
            left += [before for before, _ in node.next_functions]
    return found


@pytest.mark.parametrize(("old", "new", "antialias"), SIZES)
def test_the_matrices_are_torchs_resampling(old, new, antialias):
    planes = torch.randn(2, 3, *old, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = F.interpolate(planes, size=new, mode="bicubic", antialias=antialias)
    assert torch.equal(bicubic(planes, new, antialias=antialias), expected)
    with deterministic():
        found = bicubic(planes, new, antialias=antialias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    slopes = [torch.autograd.grad(image.square().sum(), planes)[0] for image in (found, expected)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-4, atol=1e-4)


def test_positions_have_no_gradient_by_interpolation_where_it_must_repeat():
    """A GPU has no deterministic backward pass of bicubic resampling, and warns in place of one."""
    encoding = PositionEncoding(8, 6)
    assert any(name.startswith("Upsample") for name in operations(encoding(4, 5)))
    with deterministic():
        found = encoding(4, 5)
    assert not any(name.startswith("Upsample") for name in operations(found))
    torch.testing.assert_close(found, encoding(4, 5))


def test_antialiased_planes_on_mps_are_not_interpolated_there():
    planes = torch.rand(1, 2, 7, 7)
    with other_device("mps:0") as device:
        found = bicubic(planes.to(device), (5, 9), antialias=True)
        assert found.device == device
        assert torch.allclose(
            found.cpu(), F.interpolate(planes, size=(5, 9), mode="bicubic", antialias=True), atol=1e-5
        )


def test_autocast_leaves_the_matrices_in_float32():
    planes = torch.rand(1, 1, 6, 6)
    with deterministic(), torch.autocast("cpu", torch.bfloat16):
        assert bicubic(planes, (4, 4)).dtype == torch.float32
