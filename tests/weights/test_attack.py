"""Hostile checkpoints, each loaded in a process that is watched; the long run is `benchmarks/attack.py`."""

import random
import sys

import pytest
from attack_checkpoints import CHANGES, METRICS, Parts
from attack_worker import Worker

from iqametrics import create_metric
from iqametrics.errors import WeightsError
from iqametrics.images import Sizing
from iqametrics.weights.manifest import WEIGHTS_FOLDER


def test_the_sizing_of_a_kilometre_is_told_in_one_line():
    with pytest.raises(WeightsError, match=r"sizing .* of the checkpoint is wrong") as caught:
        Sizing.from_dict({"min_side": 64, "short_side": [0] * 1000})
    assert len(str(caught.value)) < 600


def test_a_file_that_is_taken_apart_and_joined_is_the_same_checkpoint(tmp_path):
    path = WEIGHTS_FOLDER / "bpclip-nr.lite.safetensors"
    (tmp_path / "joined.safetensors").write_bytes(Parts.of(path.read_bytes()).joined())
    assert create_metric("bpclip-nr", weights=tmp_path / "joined.safetensors").tag == "lite"


@pytest.mark.parametrize("kind", CHANGES)
def test_every_change_changes(kind):
    parts = Parts.of((WEIGHTS_FOLDER / "bpclip-nr.lite.safetensors").read_bytes())
    changed = [CHANGES[kind][1](parts, random.Random(seed)) for seed in range(3)]
    assert any(content != parts.joined() for content in changed)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
def test_hostile_checkpoints():
    with Worker("attack_checkpoints:Checkpoints", 11) as worker:
        reports = [worker.do(number) for number in range(100)]
    assert [report for report in reports if report.fault] == []
    assert {report.outcome for report in reports} >= {"refused", "scored"}
    assert {report.name.partition(":")[0] for report in reports} == set(METRICS)
