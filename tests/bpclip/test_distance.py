"""The lite form as a loss: a distance of features that is 0 for the reference alone, and leads to it."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from iqametrics import create_metric
from iqametrics.bpclip.distance import feature_distance
from iqametrics.errors import InputError


def picture(side=96):
    """Smooth shapes with edges, and a fine texture in one half."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    disc = ((x - 0.4) ** 2 + (y - 0.5) ** 2 < 0.08).float()
    noise = torch.rand(side, side, generator=torch.Generator().manual_seed(0))
    blue = 0.3 + 0.3 * y + 0.2 * noise * (x > 0.5)
    return torch.stack([0.2 + 0.5 * disc + 0.1 * x, 0.7 - 0.4 * disc * y, blue])[None]


def psnr(one, other):
    return float(-10 * (one - other).square().mean().log10())


def test_the_sum_by_hand():
    pixels, level = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, 5, 2, 2)
    moved = torch.stack([pixels[0] + 0.1, pixels[1]])
    raised = torch.stack([level[0], level[1] + 0.3])
    found = feature_distance([moved, level, raised], [pixels[:1], level[:1], level[:1]])
    assert torch.allclose(found, torch.tensor([0.1 / 0.25, 0.3 / 4]), atol=1e-6)


@pytest.mark.parametrize("tag", ["lite", "lite2"])
def test_steps_along_it_restore_the_picture(tag):
    loss, metric = create_metric(f"bpclip-fr.{tag}", as_loss=True), create_metric(f"bpclip-fr.{tag}")
    clean = picture()
    start = interpolate(avg_pool2d(clean, 4), scale_factor=4, mode="bilinear")
    image = start.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr=0.01)
    held = loss.encode_reference(clean)
    for _ in range(30):
        adam.zero_grad()
        loss(image.clamp(0, 1), held).backward()
        adam.step()
    end = image.detach().clamp(0, 1)
    assert psnr(end, clean) > psnr(start, clean) + 3
    assert metric(start, clean) < metric(end, clean) <= metric(clean, clean)


def test_only_the_reference_has_no_distance():
    loss = create_metric("bpclip-fr.lite2", as_loss=True)
    clean = picture()
    # What scores has its BatchNorms folded away, which is another rounding.
    assert loss(clean, clean) == pytest.approx(0, abs=1e-5)
    assert loss(clean, loss.encode_reference(clean)) == pytest.approx(0, abs=1e-5)
    assert loss((clean + 0.01).clamp(0, 1), clean) > 0.04
    assert not loss.loss_is_of_score


def test_its_score_is_that_of_the_metric():
    loss, metric = create_metric("bpclip-fr.lite2", as_loss=True), create_metric("bpclip-fr.lite2")
    clean = picture()
    damaged = (clean + 0.1 * torch.rand(clean.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    expected = metric(damaged, clean)
    for reference in (clean, loss.encode_reference(clean)):
        assert torch.allclose(loss.score_with_gradient(damaged, reference), expected, atol=1e-5)
    assert loss.explain(damaged, loss.encode_reference(clean)).score == pytest.approx(expected.item(), abs=1e-5)


def test_features_that_lack_the_pixels_are_refused():
    held = create_metric("bpclip-fr.lite2").encode_reference(picture())
    with pytest.raises(InputError, match="encode_reference of the metric that was made with as_loss"):
        create_metric("bpclip-fr.lite2", as_loss=True)(picture(), held)


def test_tiles_and_several_images():
    loss = create_metric("bpclip-fr.lite2", as_loss=True, view="native")
    clean = picture(side=64)
    wide = torch.cat([clean] * 9, dim=3)
    assert loss(wide, wide) == pytest.approx(0, abs=1e-5)
    assert loss((wide + 0.02).clamp(0, 1), wide) > 0.08
    fit = create_metric("bpclip-fr.lite2", as_loss=True)
    worse = (clean + 0.05).clamp(0, 1)
    mean = (fit(worse, clean) + fit(clean, clean)) / 2
    assert torch.allclose(fit(torch.cat([worse, clean]), clean), mean, atol=1e-6)
