"""Two hundred scorings in one process: the same scores, no more memory; the long run is `benchmarks/attack.py`."""

import sys

import pytest
from attack_soak import Soak
from attack_worker import Fault, Worker


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
def test_two_hundred_scorings():
    with Worker("attack_soak:Soak", 0) as worker:
        reports = [worker.do(number) for number in range(200)]
    assert [report for report in reports if report.outcome != "scored"] == []


def test_another_score_is_a_fault():
    soak = Soak(0)
    case = soak.prepare(0)
    assert soak.run(case) == "scored"
    soak.scores[case.name] += 1e-3
    with pytest.raises(Fault, match="scores"):
        soak.run(case)
