"""The second edition of the lite checkpoints does what docs/lite-models.md says of it."""

import numpy as np
import pytest
import torch
from places import ROOT

from iqametrics import LiteCheckpointWarning, create_metric, read_image
from iqametrics.registry import metric_info


@pytest.fixture(scope="module")
def photograph():
    return read_image(ROOT / "docs/example/seeding.jpg")[:, :256, :256].contiguous()


@pytest.fixture(scope="module")
def board():
    y, x = np.mgrid[:256, :256]
    return torch.from_numpy(np.repeat(((y + x) % 2)[None], 3, axis=0).astype(np.float32))


@pytest.mark.parametrize("name", ["bpclip-fr", "bpclip-nr", "pfd-iqa"])
def test_a_bare_name_means_the_second_edition_and_the_first_stays(name):
    assert metric_info(name).tag == "lite2"
    assert set(metric_info(name).tags) == {"lite", "lite2"}
    with pytest.warns(LiteCheckpointWarning, match=f"this is the small checkpoint {name}.lite2"):
        create_metric(name)
    assert create_metric(f"{name}.lite").tag == "lite"


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


def test_shuffled_blocks_are_no_photograph(photograph):
    """All blocks of 32 pixels are there, in another order."""
    blocks = photograph.unfold(1, 32, 32).unfold(2, 32, 32).reshape(3, 64, 32, 32)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    rows = blocks[:, order].reshape(3, 8, 8, 32, 32).permute(0, 1, 3, 2, 4)
    shuffled = rows.reshape(3, 256, 256)
    assert torch.equal(shuffled.flatten().sort().values, photograph.flatten().sort().values)
    second = create_metric("bpclip-nr.lite2")
    assert second(shuffled).item() < second(photograph).item() - 0.1
