"""What scores mean: shares and probabilities against NumPy and SciPy, the bundled facts, and how they are fitted."""

import json
from pathlib import Path

import numpy as np
import pytest
from make_meaning import calibration, fitted, paired
from scipy.stats import norm, percentileofscore

from iqametrics import create_metric, metric_info
from iqametrics.datasets.sample import Sample
from iqametrics.errors import InputError, WeightsError
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest
from iqametrics.weights.meaning import ScoreMeaning, find_meaning


def meaning(quantiles=(0.0, 0.2, 0.2, 0.6, 1.0), spread=0.1, **more):
    return ScoreMeaning(
        checkpoint="x.y", sha256="0", pictures="5 pictures", n=5, quantiles=quantiles, spread=spread, pairs=10, **more
    )


def test_shares_by_hand():
    known = meaning()
    assert [known.beats(score) for score in (-1.0, 0.0, 0.1, 0.4, 1.0, 2.0)] == [0, 0, 0.125, 0.625, 1, 1]
    assert known.beats(0.2) == (0.25 + 0.5) / 2
    assert meaning(higher_is_better=False).beats(0.4) == 1 - 0.625
    assert known.text(0.4) == "better than 62% of 5 pictures"


def test_shares_are_those_of_the_scores_themselves():
    scores = np.random.default_rng(0).beta(4, 2, size=400)
    known = meaning(tuple(np.quantile(scores, np.linspace(0, 1, 101))))
    for score in np.linspace(0.05, 0.99, 30):
        assert known.beats(score) == pytest.approx(percentileofscore(scores, score, "mean") / 100, abs=0.006)


def test_preference_is_thurstones():
    known = meaning(spread=0.2)
    for one, other in ((0.7, 0.4), (0.4, 0.7), (0.5, 0.5), (0.9, 0.1)):
        assert known.preference(one, other) == pytest.approx(norm.cdf((one - other) / (np.sqrt(2) * 0.2)), rel=1e-12)
        assert meaning(spread=0.2, higher_is_better=False).preference(other, one) == known.preference(one, other)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_what_is_no_number_means_nothing(score):
    for ask in (meaning().beats, meaning().text, lambda value: meaning().preference(0.5, value)):
        with pytest.raises(InputError, match="means nothing"):
            ask(score)


@pytest.mark.parametrize("entry", read_manifest(WEIGHTS_FOLDER).checkpoints, ids=lambda entry: entry.file)
def test_each_bundled_checkpoint_has_a_meaning(entry):
    name = f"{entry.metric}.{entry.tag}"
    known = metric_info(name).meaning
    assert known is find_meaning(entry.sha256, WEIGHTS_FOLDER)
    assert (known.checkpoint, known.sha256) == (name, entry.sha256)
    assert 0.03 < known.spread < 0.5
    assert len(known.quantiles) == 101
    assert known.beats(known.quantiles[30]) == pytest.approx(0.3, abs=0.02)


def test_a_metric_knows_its_meaning_by_its_file():
    assert create_metric("bpclip-nr.lite").meaning is metric_info("bpclip-nr.lite").meaning
    assert create_metric("bpclip-nr", weights=None).meaning is None


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[3]",
        '[{"checkpoint": "x"}]',
        json.dumps([{**vars(meaning()), "quantiles": [1.0, 0.0]}]),
        json.dumps([{**vars(meaning()), "quantiles": [1.0]}]),
        json.dumps([{**vars(meaning()), "spread": 0.0}]),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, damage):
    assert find_meaning("0", tmp_path / "none") is None
    (tmp_path / "meaning.json").write_text(damage)
    with pytest.raises(WeightsError, match=r"meaning\.json: is not a readable file of meanings"):
        find_meaning("0", tmp_path)


def observers(count, spread):
    """Scores, and people's mean scores that differ from them by normal errors of a known spread."""
    rng = np.random.default_rng(3)
    scores = rng.uniform(0, 1, count)
    samples = [Sample(Path(str(number)), None, 0.5) for number in range(count)]
    return samples, scores, scores + spread * rng.standard_normal(count)


def test_the_spread_that_was_put_in_is_found():
    samples, scores, mos = observers(500, 0.12)
    assert fitted(scores, mos, paired(samples, mos)) == pytest.approx(0.12, rel=0.1)
    found = calibration(scores, mos, samples)
    assert all(abs(each["stated"] - each["observed"]) < 0.05 for each in found["bins"])
    assert found["pairs of the second half"] == 250 * 249 // 2


def test_pairs_share_a_reference_and_have_a_winner():
    samples = [Sample(Path(name), Path(name[0]), 0.5) for name in ("a1", "a2", "a3", "b1")]
    assert paired(samples, np.array([0.2, 0.9, 0.2, 0.5])).tolist() == [[1, 0], [1, 2]]
