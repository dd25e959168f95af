"""`benchmarks/maps.py`: damage lies in its quarter, and maps that are known get the verdict that is known."""

import types

import maps
import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def photographs():
    y, x = np.mgrid[:64, :64] / 64
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y), np.sin(5 * x * y)], axis=2)
    return [
        np.clip(0.5 + 0.3 * waves + 0.1 * rng.standard_normal((64, 64, 3)), 0, 1).astype(np.float32) for _ in range(4)
    ]


def test_damage_is_in_one_quarter_and_every_quarter_has_its_turn(photographs):
    seen = {kind: [] for kind in maps.DAMAGE}
    for photograph, cases in maps.each_case(photographs):
        for kind, quarter, picture in cases:
            changed = maps.quarter_means(np.abs(picture - photograph).mean(axis=2).astype(np.float64))
            assert (np.delete(changed, quarter) == 0).all()
            assert changed[quarter] > 0.005
            seen[kind].append(quarter)
    assert all(np.bincount(quarters).tolist() == [2, 2, 2, 2] for quarters in seen.values())


def explained(values):
    """A full-reference metric that explains itself by one map."""
    explain = lambda picture, reference: types.SimpleNamespace(maps=lambda: {"map": values(picture, reference)})  # noqa: E731
    return types.SimpleNamespace(mode="fr", explain=explain)


def test_a_perfect_map_is_always_right_and_its_opposite_never(photographs):
    right = maps.measured(explained(lambda one, other: (one - other).abs().mean((0, 1))), photographs)["map"]
    wrong = maps.measured(explained(lambda one, other: -(one - other).abs().mean((0, 1))), photographs)["map"]
    assert all(row == {"found": 1, "answers": 1} for row in right.values())
    assert all(row == {"found": 0, "answers": 0} for row in wrong.values())


def test_a_map_that_sees_only_the_content_is_right_by_chance(photographs):
    corner = torch.zeros(8, 8)
    corner[0, 0] = 1
    found = maps.measured(explained(lambda one, other: corner), photographs)["map"]
    assert all(row["found"] == 0.25 for row in found.values())
    assert all(row["answers"] == 0 for row in found.values())


def test_quarters_of_an_odd_map_share_its_middle():
    values = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, np.nan]])
    assert maps.quarter_means(values).tolist() == [3, 4, 6, (5 + 6 + 8) / 3]
    assert "0.25" not in maps.table({"m": {kind: {"found": 1.0, "answers": 0.5} for kind in maps.DAMAGE}})
