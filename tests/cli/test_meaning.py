"""`--meaning` of score and compare: columns, JSON, what two pictures are to each other, and who does not know."""

import json

import pytest
from scipy.stats import norm

from iqametrics import create_metric, metric_info
from iqametrics.cli.main import main

SHARP, BLURRED = "docs/example/score-0.7.jpg", "docs/example/score-0.3.jpg"
NAME = "bpclip-nr.lite"


@pytest.fixture
def cli(capsys):
    """Run a command; status, stdout and stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


def test_two_pictures_are_placed_and_set_against_each_other(cli):
    status, out, err = cli("score", SHARP, BLURRED, "--metric", NAME, "--meaning", "--format", "json")
    sharp, blurred = json.loads(out)
    known = metric_info(NAME).meaning
    assert status == 0
    for row in (sharp, blurred):
        assert row["beats"] == pytest.approx(known.beats(row["score"]), abs=1e-4)
        assert row["beats_of"] == known.pictures
    gain = (sharp["score"] - blurred["score"]) / (2**0.5 * known.spread)
    assert sharp["preferred"] == pytest.approx(norm.cdf(gain), abs=1e-4)
    assert sharp["preferred"] + blurred["preferred"] == pytest.approx(1, abs=1e-3)
    assert f"beats is the share of {known.pictures} whose scores are worse" in err


def test_a_table_has_the_columns_and_one_picture_no_other(cli):
    _, out, err = cli("score", SHARP, "--metric", NAME, "--meaning")
    assert out.splitlines()[0].split() == ["image", "metric", "score", "beats"]
    assert "preferred" not in err
    _, out, _ = cli("score", SHARP, BLURRED, "--metric", NAME, "--meaning", "--format", "csv", "--quiet")
    assert out.splitlines()[0].split(",")[3:6] == ["score", "beats", "preferred"]


def test_a_picture_that_cannot_be_read_is_preferred_to_nothing(cli):
    status, out, _ = cli("score", SHARP, "none.jpg", "--metric", NAME, "--meaning", "--format", "json")
    first, second = json.loads(out)
    assert status == 1
    assert "beats" in first
    assert "preferred" not in first
    assert "beats" not in second


def test_who_does_not_know_says_so(cli):
    status, _, err = cli("score", SHARP, "--metric", "piq/total_variation", "--meaning")
    assert status == 2
    assert "--meaning is not known of piq/total_variation" in err.splitlines()[-1]


def test_tiles_have_no_meaning_and_the_remedy_is_named(cli):
    status, _, err = cli("score", SHARP, "--metric", NAME, "--meaning", "--view", "native")
    assert status == 2
    assert "whole pictures; leave out --view native" in err.splitlines()[-1]


def test_compare_tells_how_likely_people_prefer_b(cli):
    _, out, _ = cli("compare", BLURRED, SHARP, "--metric", NAME, "--meaning", "--format", "json")
    (picture,) = json.loads(out)["pictures"]
    expected = create_metric(NAME).meaning.preference(picture["score_b"], picture["score_a"])
    assert picture["prefer_b"] == pytest.approx(expected, abs=1e-4)
    _, out, _ = cli("compare", BLURRED, SHARP, "--metric", NAME, "--format", "csv")
    assert "prefer_b" not in out


def test_an_explanation_says_what_its_score_means():
    explanation = create_metric(NAME).explain(SHARP)
    assert explanation.facts()["means"] == metric_info(NAME).meaning.text(explanation.score)
