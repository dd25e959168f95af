"""The interface of pyiqa over our metrics, against our own metrics and pyiqa's documented conventions."""

import pytest
import torch

import iqametrics
from iqametrics.compat import pyiqa
from iqametrics.errors import InputError, MissingExtraError, UnknownMetricError


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 40, 50, generator=generator), torch.rand(2, 3, 40, 50, generator=generator)


def test_attributes_and_shapes(fake_metrics, pictures):
    dist, ref = pictures
    nr, fr = pyiqa.create_metric("fake-nr.tiny"), pyiqa.create_metric("fake-fr.lite", device="cpu")
    assert (nr.metric_mode, nr.lower_better, nr.score_range, nr.metric_name) == ("NR", False, "0, 1", "fake-nr")
    assert (fr.metric_mode, fr.lower_better) == ("FR", True)
    # pyiqa's no-reference metrics leave a reference aside.
    assert torch.equal(nr(dist, ref), iqametrics.create_metric("fake-nr.tiny")(dist)[:, None])
    assert torch.equal(fr(dist, ref), iqametrics.create_metric("fake-fr.lite")(dist, ref)[:, None])
    assert fr.device.type == "cpu"


@pytest.mark.parametrize(("reduction", "shape"), [("mean", ()), ("sum", ()), ("none", (2, 1))])
def test_a_loss_is_the_score_itself_reduced(fake_metrics, pictures, reduction, shape):
    dist, ref = pictures
    metric = pyiqa.create_metric("fake-fr.lite", as_loss=True, loss_weight=2.0, loss_reduction=reduction)
    dist.requires_grad_(True)
    loss = metric(dist, ref)
    scores = 2 * iqametrics.create_metric("fake-fr.lite")(dist, ref)[:, None]
    expected = {"mean": scores.mean(), "sum": scores.sum(), "none": scores}[reduction]
    assert loss.shape == shape
    torch.testing.assert_close(loss.detach(), expected)
    loss.sum().backward()
    assert dist.grad.abs().sum() > 0


def test_names(fake_metrics):
    assert pyiqa.create_metric("piq/psnr").metric_mode == "FR"
    with pytest.raises(UnknownMetricError, match="did you mean 'fake-nr'"):
        pyiqa.create_metric("fake-n")
    with pytest.raises((MissingExtraError, UnknownMetricError), match="pyiqa"):
        pyiqa.create_metric("no_such_metric_anywhere")
    assert {"fake-nr", "piq/psnr"} <= set(pyiqa.list_models())
    assert "fake-nr" not in pyiqa.list_models("FR")
    assert pyiqa.list_models(filter="fake-*") == ["fake-fr", "fake-nr"]


def test_mistakes(fake_metrics, pictures):
    with pytest.raises(InputError, match="compares with a reference"):
        pyiqa.create_metric("fake-fr.lite")(pictures[0])
    with pytest.raises(InputError, match="loss_reduction 'max'"):
        pyiqa.create_metric("fake-nr.tiny", loss_reduction="max")
    with pytest.raises(UnknownMetricError, match="unknown mode"):
        pyiqa.list_models("xr")
    with pytest.raises(InputError, match="as_loss=True"):
        iqametrics.create_metric("fake-nr.tiny").score_with_gradient(pictures[0])
