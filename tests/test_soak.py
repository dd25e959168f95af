"""The soak of `benchmarks/attack.py` can fail; its long run is made by hand."""

import pytest
from attack_soak import Soak
from attack_worker import Fault


def test_another_score_is_a_fault():
    soak = Soak(0)
    case = soak.prepare(0)
    assert soak.run(case) == "scored"
    soak.scores[case.name] += 1e-3
    with pytest.raises(Fault, match="scores"):
        soak.run(case)
