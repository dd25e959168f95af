"""Where BPCLIP's score is lost: by the head at single positions, and by repair with the reference."""

import numpy as np
import pytest
import torch

from iqametrics import create_metric, read_image
from iqametrics.bpclip.explain import local_scores, repairs
from iqametrics.images.explanation import HARM

PHOTO = "docs/example/score-0.7.jpg"


@pytest.fixture(scope="module")
def no_reference():
    return create_metric("bpclip-nr.lite")


@pytest.fixture(scope="module")
def full_reference():
    return create_metric("bpclip-fr.lite2")


def halves(photograph):
    """The photograph with a blurred right half: each column of pixels is averaged over 16 rows."""
    damaged = photograph.clone()
    half = photograph.shape[-1] // 2
    coarse = torch.nn.functional.avg_pool2d(photograph[None, ..., half:], 16, stride=1, padding=8)
    damaged[..., half:] = coarse[0, :, : photograph.shape[-2], : photograph.shape[-1] - half]
    return damaged


def test_positions_that_are_alike_score_as_the_picture(no_reference):
    model = no_reference.model
    with torch.no_grad():
        encoding = model.encode(model.levels(model.trunk(torch.rand(1, 3, 64, 96))))
        alike = [level.mean(dim=1, keepdim=True).expand_as(level) for level in encoding.tokens]
        score = model.score(encoding.descriptors)
        scores = local_scores(model, type(encoding)([], [], alike, encoding.descriptors, encoding.grid))
    assert scores.shape == (2, 3)
    torch.testing.assert_close(scores, score.expand(2, 3), rtol=1e-4, atol=1e-5)


def test_one_position_is_scored_by_its_own_tokens(no_reference):
    """Against a picture of one cell, whose mean is its only position."""
    model = no_reference.model
    with torch.no_grad():
        levels = model.levels(model.trunk(torch.rand(1, 3, 32, 32)))
        encoding = model.encode(levels)
        assert local_scores(model, encoding).item() == pytest.approx(model.score_levels(levels).item(), abs=1e-6)


def test_the_damaged_half_lowers_the_score(no_reference):
    explanation = no_reference.explain(halves(read_image(PHOTO)))
    harm = explanation.harm
    middle = harm.shape[-1] // 2
    assert harm[:, middle:].mean() > harm[:, :middle].mean()
    assert explanation.maps()[HARM] is harm
    assert explanation.repair is None


def test_repairs_of_one_block_are_the_whole_gain(full_reference):
    reference = read_image(PHOTO)[None, :, :256, :256]
    damaged = halves(reference[0])[None]
    gain = repairs(full_reference.model, damaged, reference, blocks=1)
    score = full_reference(damaged, reference).item()
    assert gain.shape == (1, 1)
    # An identical pair scores 1 by this checkpoint.
    assert gain.item() == pytest.approx(1 - score, abs=1e-4)
    assert repairs(full_reference.model, reference, reference).abs().max() < 1e-5


def test_repair_is_where_the_damage_is(full_reference):
    reference = read_image(PHOTO)[:, :256, :256]
    explanation = full_reference.explain(halves(reference), reference)
    repair = explanation.repair.numpy()
    assert repair.shape == (4, 4)
    assert np.abs(repair[:, :2]).max() < 0.02 < repair[:, 2:].max()
    assert explanation.harm is None


def test_features_alone_cannot_be_repaired(full_reference):
    image = read_image(PHOTO)[:, :256, :256]
    explanation = full_reference.explain(image, full_reference.encode_reference(image))
    assert explanation.repair is None
    assert "difference from the reference" in explanation.maps()


def test_the_relative_score_is_what_is_explained(full_reference):
    reference = read_image(PHOTO)[:, :256, :256]
    damaged = halves(reference)
    explanation = full_reference.explain(damaged, reference)
    assert explanation.score == pytest.approx(full_reference(damaged, reference).item(), abs=1e-5)
    moved = explanation.score - explanation.baseline_score
    assert explanation.contributions.sum().item() == pytest.approx(moved, abs=1e-2 * abs(moved) + 1e-4)
