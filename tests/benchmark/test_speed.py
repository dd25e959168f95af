"""`benchmarks/speed.py`: its ratios, and the process that runs the ways."""

import sys
from pathlib import Path

import pytest
import speed
import speed_ways


def test_a_ratio_is_the_median_of_the_ratios_of_rounds() -> None:
    ratio = next(each for each in speed.RATIOS if each.ways[0] == "bpclip-nr")
    # Round by round 2, 4 and 3; the quotient of the medians would be 4.
    seconds = {"now": {"bpclip-nr": [2.0, 8.0, 30.0], "resnet50": [1.0, 2.0, 10.0]}}
    assert speed._line(ratio, seconds)["now"] == 3.0


def test_versions_of_a_reference_are_compared_with_as_many_pairs() -> None:
    ratio = next(each for each in speed.RATIOS if "versions" in each.label)
    # (5 + 25 * 2) / (25 * 4).
    seconds = {"now": {"bpclip-fr reference": [5.0], "bpclip-fr version": [2.0], "bpclip-fr": [4.0]}}
    assert speed._line(ratio, seconds)["now"] == 0.55


def test_another_commit_is_divided_by_the_same_bare_network() -> None:
    ratio = next(each for each in speed.RATIOS if each.ways[0] == "bpclip-nr.lite")
    seconds = {
        "now": {"bpclip-nr.lite": [2.0], "efficientnet_lite0": [2.0]},
        "before": {"bpclip-nr.lite": [3.0]},
    }
    line = speed._line(ratio, seconds)
    assert (line["before"], line["now"]) == (1.5, 1.0)


def test_every_ratio_has_its_ways() -> None:
    assert {name for ratio in speed.RATIOS for name in ratio.ways} == set(speed_ways.WAYS)


@pytest.mark.slow
def test_a_worker_says_what_cannot_be_measured(tmp_path: Path) -> None:
    # A package of this name that cannot be imported stands before any other.
    (tmp_path / "pyiqa.py").write_text("raise ImportError('not here')\n")
    worker = speed.Worker(tmp_path, 1, None)
    try:
        assert "not here" in str(worker.prepare("topiq_nr"))
    finally:
        worker.close()
    seconds, processor = speed.timed([sys.executable, "-c", "pass"], tmp_path)
    assert seconds > 0
    assert processor > 0
