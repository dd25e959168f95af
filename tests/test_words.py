"""Words that are true of a picture: the readout by hand, the bundled one on pictures, and how both are measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import words as benchmark
from make_words import fitted
from PIL import Image, ImageFilter
from scipy.stats import mannwhitneyu

from iqametrics import create_metric
from iqametrics.errors import InputError
from iqametrics.words import LEAST_AUC, WORDS, WordReadout, find_words

PHOTO = "docs/example/score-0.7.jpg"


def readout(auc=1.0, thresholds=0.0):
    """Two channels of one level: four features, of which the first says each word, by its own factor."""
    weights = torch.zeros(len(WORDS), 4)
    weights[:, 0] = torch.arange(1, len(WORDS) + 1)
    every = torch.ones(len(WORDS))
    return WordReadout(
        {
            "mean": torch.zeros(4),
            "scale": torch.full((4,), 2.0),
            "weights": weights,
            "bias": -every,
            "thresholds": thresholds * every,
            "auc": auc * every,
        }
    )


def test_words_by_hand():
    levels = [torch.stack([torch.full((3, 3), value), torch.zeros(3, 3)])[None] for value in (0.5,)]
    (said,) = readout().words(levels)
    # The mean of the first channel is 0.5, so the logit of word k, from 1 up, is k / 4 - 1.
    assert list(said) == list(WORDS[:3:-1])
    assert said[WORDS[-1]] == pytest.approx(1 / (1 + np.exp(-(len(WORDS) / 4 - 1))), abs=1e-6)
    assert list(readout(thresholds=-9.0).words(levels)[0]) == list(WORDS[:3:-1])
    assert list(readout(thresholds=1.2).words(levels)[0]) == list(WORDS[:7:-1])
    assert readout(auc=0.89).words(levels) == [{}]
    assert readout().auc == dict.fromkeys(WORDS, 1.0)


def test_the_bundled_readout_is_as_good_as_its_report():
    known = find_words("efficientnet_lite0_biq2021")
    report = json.loads(Path("benchmarks/results/words-readout.json").read_text("utf-8"))
    assert find_words("efficientnet_lite0") is None
    assert known.auc == pytest.approx(report["auc"], abs=1e-3)
    assert np.mean([area for area in known.auc.values() if area >= LEAST_AUC]) > 0.9


@pytest.mark.parametrize("name", ["bpclip-nr.lite", "pfd-iqa.lite"])
def test_a_blurred_photograph_is_blurry_and_the_sharp_one_is_not(name):
    metric = create_metric(name)
    with Image.open(PHOTO) as opened:
        sharp = opened.convert("RGB")
    words = metric.words([sharp, sharp.filter(ImageFilter.GaussianBlur(4))])
    assert "blurry" not in words[0]
    assert "blurry" in words[1]
    assert "blurry" in metric.explain(sharp.filter(ImageFilter.GaussianBlur(4))).facts()["looks"]


def test_who_has_no_readout_says_so():
    with pytest.raises(InputError, match="no readout of words is stored"):
        create_metric("bpclip-fr.lite").words(PHOTO)


def test_areas_are_mann_and_whitneys():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 8, 60).astype(float).tolist()
    truths = [("noisy", "blurry", "")[at % 3] for at in range(60)]
    true = np.array([truth == "noisy" for truth in truths])
    statistic = mannwhitneyu(np.array(numbers)[true], np.array(numbers)[~true]).statistic
    assert benchmark.auc(numbers, truths, "noisy") == pytest.approx(statistic / (20 * 40), abs=1e-4)


def test_a_word_that_a_feature_says_is_learnt():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(220, 12, generator=rng)
    truths = [["", *WORDS][at % 11] for at in range(220)]
    for at, truth in enumerate(truths):
        if truth:
            features[at, WORDS.index(truth)] += 6
    tensors = fitted(features, truths, penalty=0.001) | {"thresholds": torch.zeros(10), "auc": torch.ones(10)}
    numbers = WordReadout(tensors).numbers_of(features)
    for at, word in enumerate(WORDS):
        assert benchmark.auc(numbers[:, at].tolist(), truths, word) > 0.99


def test_pictures_have_a_word_each(tmp_path):
    y, x = np.mgrid[:64, :64] / 64
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y), np.sin(5 * x * y)], axis=2)
    Image.fromarray(((0.5 + 0.4 * waves).clip(0, 1) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    made = list(benchmark.pictures([tmp_path / "a.png"], 64))
    assert [truth for truth, _ in made] == ["", *WORDS] == ["", *benchmark.DAMAGE]
    assert all(np.abs(picture - made[0][1]).mean() > 0.001 for _, picture in made[1:])
