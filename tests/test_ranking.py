import numpy as np
import pytest
import torch

from iqametrics.ranking import ORIGINAL, UNCHAINED, number_chains, order_loss


def by_loops(scores, ranks, names, margin):
    """The loss by its definition, over all pairs."""
    losses = [
        max(0.0, margin * (ranks[i] - ranks[j]) - (scores[i] - scores[j]))
        for i, (image, kind) in enumerate(names)
        for j, (other, other_kind) in enumerate(names)
        if image is not None and image == other and kind in (other_kind, None) and ranks[i] > ranks[j]
    ]
    return sum(losses) / max(len(losses), 1)


def rows(names):
    return torch.tensor(
        [row if name[0] is not None else UNCHAINED for name, row in zip(names, number_chains(names), strict=True)]
    )


@pytest.mark.parametrize("seed", range(5))
def test_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    names = [(rng.choice([None, "a", "b"]), rng.choice([None, "blur", "noise"])) for _ in range(24)]
    scores, ranks = rng.random(24), rng.integers(0, 5, 24) / 5
    found = order_loss(torch.tensor(scores), torch.tensor(ranks), rows(names), margin=0.3)
    assert float(found) == pytest.approx(by_loops(scores, ranks, names, 0.3), abs=1e-12)
    assert float(found) > 0


def test_kinds_are_not_compared_with_each_other_but_with_the_original():
    names = [("a", None), ("a", "blur"), ("a", "noise"), ("b", "blur")]
    ranks = torch.tensor([1.0, 0.9, 0.5, 0.1])
    chains = rows(names)
    assert chains[0, 1] == ORIGINAL
    well = torch.tensor([0.9, 0.1, 0.6, 0.95])
    assert order_loss(well, ranks, chains, margin=0.0) == 0
    assert order_loss(torch.tensor([0.5, 0.6, 0.1, 0.0]), ranks, chains, margin=0.0) == pytest.approx(0.1 / 2)


def test_nothing_to_compare_costs_nothing_and_has_a_gradient():
    scores = torch.rand(3, requires_grad=True)
    loss = order_loss(scores, torch.rand(3), torch.tensor([UNCHAINED] * 3), margin=0.4)
    loss.backward()
    assert loss == 0
    assert scores.grad is not None
    assert not scores.grad.any()
