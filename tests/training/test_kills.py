"""Real runs that are killed and gone on with; the long run is `benchmarks/attack.py --only kills`."""

import shutil
import sys

import pytest
from attack_kills import differences
from attack_worker import Worker
from safetensors.numpy import load_file, save_file

from iqametrics.weights.manifest import WEIGHTS_FOLDER


def test_one_bit_of_one_tensor_is_a_difference(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        shutil.copy(WEIGHTS_FOLDER / "bpclip-nr.lite.safetensors", tmp_path / name / "checkpoint.safetensors")
    assert differences(tmp_path / "one", tmp_path / "other") == []
    tensors = load_file(tmp_path / "one" / "checkpoint.safetensors")
    tensors[min(tensors)].view("uint8").reshape(-1)[-1] ^= 1
    save_file(tensors, tmp_path / "one" / "checkpoint.safetensors")
    (tmp_path / "other" / "scores.csv").write_text("left over\n")
    assert differences(tmp_path / "one", tmp_path / "other") == ["checkpoint.safetensors", "scores.csv"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads processor time as Linux tells it")
def test_a_benchmark_killed_at_two_moments_ends_as_one_that_nobody_disturbed():
    with Worker("attack_kills:Kills", 0) as worker:
        reports = [worker.do(number) for number in (1, 3)]
    assert [(report.outcome, report.fault) for report in reports] == [("ended alike", "")] * 2
