"""How unlike the photographs of training a picture is: by the formula, of the bundled metrics, on the command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT

from iqametrics import InputError, create_metric
from iqametrics.cli.main import main
from iqametrics.novelty import NoveltyStatistics, find_novelty, pooled_features

PHOTOGRAPH = ROOT / "docs/example/seeding.jpg"


@pytest.fixture(scope="module")
def board():
    y, x = np.mgrid[:400, :400]
    return torch.from_numpy(np.repeat(((y // 8 + x // 8) % 2)[None], 3, axis=0).astype(np.float32))


def test_features_are_mean_and_deviation_of_each_channel():
    levels = [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)]
    found = pooled_features(levels).numpy()
    arrays = [level.numpy() for level in levels]
    wanted = np.concatenate([part for a in arrays for part in (a.mean((2, 3)), a.std((2, 3)))], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_with_every_direction_the_distance_is_mahalanobis():
    rng = np.random.default_rng(0)
    training = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))
    mean, scale = training.mean(0), training.std(0, ddof=1)
    _, singular, right = np.linalg.svd((training - mean) / scale, full_matrices=False)
    tensors = {
        "mean": mean,
        "scale": scale,
        "directions": right / (singular / 499**0.5)[:, None],
        "rest": np.ones(1),
        "quantiles": np.array([0.0, 1.0, 2.0]),
    }
    statistics = NoveltyStatistics({name: torch.from_numpy(value) for name, value in tensors.items()})
    others = rng.normal(size=(9, 6)) * 3
    inverse = np.linalg.inv(np.cov(training.T))
    wanted = [np.sqrt((row - mean) @ inverse @ (row - mean) / 6) for row in others]
    found = statistics.distances_of(torch.from_numpy(others).float())
    np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-3)
    shares = statistics.shares_of(torch.tensor([0.0, 0.5, 1.5, 2.0, 7.0]))
    assert shares.tolist() == pytest.approx([0, 0.25, 0.75, 1, 1])


@pytest.mark.parametrize("name", ["bpclip-nr.lite", "bpclip-nr.lite2", "pfd-iqa.lite", "pfd-iqa.lite2"])
def test_a_pattern_is_told_from_a_photograph(name, board):
    usual, odd = create_metric(name).uncertainty([PHOTOGRAPH, board]).tolist()
    assert 0 <= usual < 0.99 < odd <= 1


def test_who_does_not_know_says_so(board):
    metric = create_metric("bpclip-nr", weights=None)
    assert not metric.knows_uncertainty
    with pytest.raises(InputError, match=r"bpclip-nr\.untrained: what its training photographs are like is not stored"):
        metric.uncertainty(board)
    assert find_novelty("efficientnet_lite0") is None


def test_score_has_a_column(tmp_path, board, capsys):
    path = tmp_path / "board.png"
    Image.fromarray((board.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(path)
    command = ["score", str(PHOTOGRAPH), str(path), "--metric", "bpclip-nr.lite", "--format", "jsonl"]
    assert main([*command, "--uncertainty"]) == 0
    usual, odd = map(json.loads, capsys.readouterr().out.splitlines())
    assert usual["uncertainty"] < 0.99 < odd["uncertainty"]
    assert main(command) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {key: value for key, value in row.items() if key != "uncertainty"} for row in (usual, odd)
    ]


def test_score_refuses_what_nobody_knows(capsys):
    command = ["score", str(PHOTOGRAPH), "--metric", "bpclip-fr.lite", "--ref", str(PHOTOGRAPH), "--uncertainty"]
    assert main(command) == 2
    assert "--uncertainty is not known of bpclip-fr.lite" in capsys.readouterr().err
