"""Sizing: gradients of pixels that are exactly black or white, against finite differences."""

import pytest
import torch

from iqametrics import WeightsError, create_metric
from iqametrics.images import Sizing

LITE = ("bpclip-fr.lite", "bpclip-nr.lite", "pfd-iqa.lite")
SIDE = 112


def bump(row, column, radius=9.0):
    """A smooth hill around a pixel: resized it stays positive, so that no output of the resize meets the clamp."""
    y, x = (torch.arange(SIDE, dtype=torch.float64) - at for at in (row, column))
    return torch.exp(-(y[:, None] ** 2 + x**2) / (2 * radius**2)).expand(1, 3, -1, -1)


def reference():
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(1, 3, 7, 7, dtype=torch.float64, generator=generator)
    return torch.nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear")


def letterboxed():
    """A picture between two black bars, as a film on another screen."""
    picture = reference() * 0.8 + 0.1
    picture[..., :32, :] = 0
    picture[..., -32:, :] = 0
    return picture


STARTS = {
    "black": lambda: torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64),
    "white": lambda: torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64),
    "gray": lambda: torch.full((1, 3, SIDE, SIDE), 0.5, dtype=torch.float64),
    "letterboxed": letterboxed,
}


def loss(name, dtype):
    metric = create_metric(name, dtype=dtype, as_loss=True)
    if metric.mode == "nr":
        return metric
    held = metric.encode_reference(reference())
    return lambda x: metric(x, held)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", LITE)
def test_gradient_agrees_with_finite_differences(name, start):
    """From a bound only the step into [0, 1] can be taken, so the difference is one-sided."""
    measure = loss(name, "float64")
    picture = STARTS[start]().requires_grad_()
    (gradient,) = torch.autograd.grad(measure(picture), picture)
    for row, column in ((12, 20), (56, 60)):
        direction = bump(row, column) * (-1 if start == "white" else 1)
        step = 1e-6
        with torch.no_grad():
            difference = (measure(picture + step * direction) - measure(picture)) / step
        slope = (gradient * direction).sum()
        assert abs(slope) > 1e-6
        assert slope.item() == pytest.approx(difference.item(), rel=0.02, abs=2e-5), (row, column)


@pytest.mark.slow
def test_single_pixels_get_the_gradient_of_the_inside():
    """A pixel of a black picture has the slope of one that is black but for a hair, where nothing meets a bound."""
    measure = loss("bpclip-nr.lite", "float64")
    picture = STARTS["black"]().requires_grad_()
    (gradient,) = torch.autograd.grad(measure(picture), picture)
    nearly = picture.detach() + 1e-7
    for channel, row, column in ((0, 3, 5), (1, 50, 60), (2, 100, 111)):
        step = torch.zeros_like(nearly)
        step[0, channel, row, column] = 1e-8
        with torch.no_grad():
            difference = (measure(nearly + step) - measure(nearly - step)) / 2e-8
        assert gradient[0, channel, row, column].item() == pytest.approx(difference.item(), rel=0.03, abs=1e-6)


@pytest.mark.parametrize("size", [(150, 170), (20, 31), (40, 300)])
def test_every_pixel_of_a_black_or_white_picture_has_a_gradient(size):
    for value in (0.0, 1.0):
        images = torch.full((1, 3, *size), value, requires_grad=True)
        Sizing(32, 128).apply(images).sum().backward()
        assert (images.grad > 0).all()


def test_what_overshoots_beside_an_edge_is_flat():
    """There the clamp is flat in truth: outputs beyond the bound do not move with small changes of a pixel."""
    edge = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    edge[..., 8:] = 1
    weights = torch.rand(1, 3, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    images = (edge * 0.9).requires_grad_()
    (weights * Sizing(40).apply(images)).sum().backward()
    step = torch.zeros_like(images)
    step[0, 1, 8, 8:] = 1e-7
    with torch.no_grad():
        moved = ((weights * Sizing(40).apply(images + step)).sum() - (weights * Sizing(40).apply(images)).sum()) / 1e-7
    assert images.grad[0, 1, 8, 8:].sum().item() == pytest.approx(moved.item(), rel=1e-4)


def test_values_are_those_of_a_plain_clamp():
    noise = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)).round()
    with_gradient = Sizing(64).apply(noise.clone().requires_grad_())
    assert torch.equal(with_gradient.detach(), Sizing(64).apply(noise))
    assert with_gradient.min() == 0
    assert with_gradient.max() == 1


@pytest.mark.slow
@pytest.mark.parametrize("start", ["black", "white", "gray"])
@pytest.mark.parametrize("name", LITE)
def test_optimisation_makes_progress_from_a_flat_picture(name, start):
    measure = loss(name, "float32")
    picture = STARTS[start]().float()
    first = measure(picture).item()
    best = first
    for _ in range(5):
        picture = picture.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(measure(picture), picture)
        picture = (picture.detach() - 0.02 * gradient.sign()).clamp(0, 1)
        best = min(best, measure(picture.detach()).item())
    assert best < first - 0.02


@pytest.mark.parametrize("name", ["max_side", "tile"])
def test_a_side_beyond_all_pictures_is_refused_in_few_words(name):
    """A checkpoint's metadata may have numbers of thousands of digits, which no division survives."""
    with pytest.raises(WeightsError, match="larger than any picture's") as refused:
        Sizing.from_dict({"min_side": 64, name: 10**400})
    assert len(str(refused.value)) < 400


def test_tiles_so_small_that_a_photograph_has_thousands_are_refused():
    with pytest.raises(WeightsError, match="tiles of 1 need 128 or more"):
        Sizing.from_dict({"min_side": 1, "tile": 1})
