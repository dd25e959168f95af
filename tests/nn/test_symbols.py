"""What torch.export traces for any size gives, at each size, what the same code gives for numbers."""

import pytest
import torch

from iqametrics.nn.efficientnet_lite import SamePadConv2d
from iqametrics.nn.window_means import window_means
from iqametrics.pfd_iqa.windows import symbolic_windows, window_positions

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 14):
    pytest.skip("exports need torch 2.14", allow_module_level=True)

SIDES = ((33, 64), (64, 33), (47, 49), (90, 51), (128, 96))


class Called(torch.nn.Module):
    """A function as a module, since that is what torch.export takes."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function = function
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x)


def traced(module):
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    return torch.export.export(module, (torch.rand(2, 3, 61, 70),), dynamic_shapes=(any_size,)).module()


def pictures(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_of_any_size_is_that_of_each(kernel, stride):
    conv = SamePadConv2d(3, 4, kernel, stride=stride)
    with torch.no_grad():
        whole = traced(Called(lambda x: conv(conv(x)[:, :3]), conv))
        for sides in SIDES:
            x = pictures(*sides)
            torch.testing.assert_close(whole(x), conv(conv(x)[:, :3]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [2, 16])
def test_window_means_of_any_size_are_those_of_each(window):
    whole = traced(Called(lambda x: window_means(x, window)))
    for sides in SIDES:
        x = pictures(*sides)
        torch.testing.assert_close(whole(x), window_means(x, window), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(14, 14), (14, 15), (15, 16), (28, 17), (14, 40)])
def test_windows_of_any_size_are_those_of_each_and_each_counts_once(height, width):
    canvas = pictures(height, width)
    windows, shares, numbers = symbolic_windows(canvas, window=14, count=6)
    corners = window_positions(height, width, window=14, count=6)
    first = shares > 0
    assert int(first.sum()) == len(corners)
    assert numbers[first].tolist() == list(range(len(corners)))
    torch.testing.assert_close(shares[first], torch.full((len(corners),), 1 / len(corners)))
    for (y, x), window in zip(corners, windows[:, first].unbind(1), strict=True):
        assert torch.equal(window, canvas[..., y : y + 14, x : x + 14])
