"""Two hundred scorings in one process; the long run is `benchmarks/attack.py --only soak`."""

import pytest
import torch
from attack_soak import QuickSoak
from attack_worker import Fault


@pytest.fixture
def soak(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return QuickSoak(0)


def test_another_score_is_a_fault(soak):
    case = soak.prepare(0)
    assert soak.run(case) == "scored"
    soak.scores[case.name] += 1e-3
    with pytest.raises(Fault, match="scores"):
        soak.run(case)


@pytest.mark.slow
def test_two_hundred_scorings_do_not_grow(soak):
    assert {soak.run(soak.prepare(number)) for number in range(200)} == {"scored"}


def test_a_leak_is_a_fault(soak):
    # 32 MB are fresh pages; smaller pieces may be of what other tests have freed.
    soak.warm, kept = 0, []
    soak.metrics["bpclip-nr.lite"].register_forward_hook(lambda *_: kept.append(torch.ones(2**23)))

    def score():
        for number in range(0, 40, 2):
            soak.run(soak.prepare(number))

    with pytest.raises(Fault, match="grew"):
        score()
