"""The second edition of the lite checkpoints does what docs/lite-models.md says of it."""

import numpy as np
import pytest
import torch
from places import ROOT

from iqametrics import create_metric, read_image
from iqametrics.registry import metric_info


@pytest.fixture(scope="module")
def photograph():
    return read_image(ROOT / "docs/example/seeding.jpg")[:, :256, :256].contiguous()


@pytest.fixture(scope="module")
def board():
    y, x = np.mgrid[:256, :256]
    return torch.from_numpy(np.repeat(((y + x) % 2)[None], 3, axis=0).astype(np.float32))


@pytest.mark.parametrize("name", ["bpclip-fr", "bpclip-nr"])
def test_a_bare_name_goes_on_meaning_the_first_edition(name):
    assert metric_info(name).tag == "lite"
    assert metric_info(name).tags == ("lite", "lite2")


def test_an_identical_pair_is_the_best_on_any_content(photograph, board):
    second = create_metric("bpclip-fr.lite2")
    assert second(board, board).item() == pytest.approx(1, abs=1e-4)
    assert second(photograph, photograph).item() == pytest.approx(1, abs=1e-4)
    assert create_metric("bpclip-fr.lite")(board, board).item() < 0.9


def test_a_shift_by_a_pixel_counts_less_than_before(photograph):
    moved = torch.cat([photograph[..., :1], photograph[..., :-1]], dim=2)
    first, second = (create_metric(f"bpclip-fr.{tag}")(moved, photograph).item() for tag in ("lite", "lite2"))
    assert second > first + 0.1


def test_a_checkerboard_is_no_picture(board):
    first, second = (create_metric(f"bpclip-nr.{tag}")(board).item() for tag in ("lite", "lite2"))
    assert second < 0.3 < first
