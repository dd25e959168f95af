"""The native view: a large picture in tiles at full size."""

import pickle

import pytest
import torch
from PIL import Image

from iqametrics import InputError, create_metric
from iqametrics.cli.main import build_parser, main
from iqametrics.images import Sizing, read_image
from iqametrics.pipeline import BatchScorer
from iqametrics.scoring import Item, score_items
from iqametrics.tiles import TileScores, starts, weigh

TILE = 512


@pytest.fixture(scope="module")
def nr():
    return create_metric("bpclip-nr.lite", view="native")


@pytest.fixture(scope="module")
def fr():
    return create_metric("bpclip-fr.lite2", view="native")


@pytest.fixture(scope="module")
def wide():
    """(3,520,700): two rows of two tiles."""
    return torch.rand((3, 520, 700), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [1, 300, 512, 513, 1023, 1024, 1025, 4000])
def test_tiles_cover_a_side_and_no_more(length):
    places = starts(length, TILE)
    covered = {position for place in places for position in range(place, min(place + TILE, length))}
    assert covered == set(range(length))
    assert len(places) == max(1, -(-length // TILE))
    assert all(place + TILE <= length for place in places) or len(places) == 1


def test_a_picture_of_one_tile_has_the_score_of_the_whole(nr):
    image = torch.rand((1, 3, 400, 500), generator=torch.Generator().manual_seed(1))
    assert torch.equal(nr(image), create_metric("bpclip-nr.lite")(image))


@pytest.mark.slow
def test_the_score_is_the_weighted_mean_of_the_tiles_alone(nr, wide):
    """Worked by hand: each tile is cut out and scored as a picture of its own, by the whole view."""
    whole = create_metric("bpclip-nr.lite")
    tiles = [wide[:, top : top + 512, left : left + 512] for top in (0, 8) for left in (0, 188)]
    scores = torch.cat([whole(tile) for tile in tiles])
    grays = [tile.mean(0) for tile in tiles]
    weights = torch.stack([(g.diff(dim=0).abs().mean() + g.diff(dim=1).abs().mean()) / 2 + 0.002 for g in grays])
    expected = (scores * weights).sum() / weights.sum()
    assert nr(wide).item() == pytest.approx(expected.item(), abs=1e-5)
    assert nr.tile_scores(wide).scores.flatten().tolist() == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.slow
def test_pairs(fr, wide):
    noisy = wide.clone()
    noisy[:, :250, :300] = (noisy[:, :250, :300] * 0.3 + 0.35).clamp(0, 1)
    found = fr.tile_scores(noisy, wide)
    assert (found.scores[:, 0] < found.scores[:, 1] - 0.02).all()
    assert fr(wide, wide).item() == pytest.approx(1, abs=1e-5)
    assert fr(noisy, wide).item() == pytest.approx(found.score.item(), abs=1e-5)
    assert fr(noisy, fr.encode_reference(wide)).item() == pytest.approx(found.score.item(), abs=1e-5)


@pytest.mark.slow
def test_the_scorer_of_many_gives_the_same(nr, wide, tmp_path):
    path = tmp_path / "wide.png"
    pixels = wide.mul(255).round().byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    rows = list(score_items([nr, create_metric("bpclip-nr.lite")], [Item(str(path))] * 2, batch_size=2))
    assert rows[0].score == rows[2].score == pytest.approx(nr(str(path)).item(), abs=1e-6)
    assert rows[1].score == pytest.approx(create_metric("bpclip-nr.lite")(str(path)).item(), abs=1e-6)


@pytest.mark.slow
def test_the_gradient_is_that_of_the_score(wide):
    loss = create_metric("bpclip-nr.lite", as_loss=True, view="native")
    image = wide[:, :, :520].clone().requires_grad_()
    loss(image).backward()
    assert image.grad is not None
    step = 1e-2 * image.grad / image.grad.norm()
    with torch.no_grad():
        change = loss(image + step) - loss(image - step)
    assert change.item() == pytest.approx(2e-2 * image.grad.norm().item(), rel=0.1)


def test_what_there_is_to_see_weighs():
    flat, noise = torch.full((3, 64, 64), 0.5), torch.rand((3, 64, 64))
    assert weigh(noise) > 50 * weigh(flat) > 0
    assert weigh(torch.rand(3, 1, 64)).isfinite()
    assert weigh(torch.rand(3, 1, 1)).isfinite()


def test_fingerprints_tell_the_views_apart(nr):
    whole = create_metric("bpclip-nr.lite")
    assert str(nr.fingerprint) != str(whole.fingerprint)
    assert nr.fingerprint.preprocessing["tile"] == TILE
    assert "tile" not in whole.fingerprint.preprocessing


def test_explain_is_of_whole_pictures(nr, wide):
    with pytest.raises(InputError, match="or call tile_scores"):
        nr.explain(wide)
    with pytest.raises(InputError, match='make it with view="native"'):
        create_metric("bpclip-nr.lite").tile_scores(wide)
    with pytest.raises(InputError, match="takes one image, not 2"):
        nr.tile_scores([wide, wide])
    with pytest.raises(InputError, match="or call tile_scores"):
        create_metric("pfd-iqa.lite", view="native").noise_spread(wide)


def test_unknown_views_and_metrics_without_any():
    with pytest.raises(InputError, match="view = 'full' is not known; choose one of fit, native"):
        create_metric("bpclip-nr.lite", view="full")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="looks at images at their own size already"):
        create_metric("piq/ssim", view="native")


@pytest.mark.parametrize("values", [{"min_side": 64, "max_side": 512, "tile": 512}, {"min_side": 64, "tile": 32}])
def test_a_sizing_of_tiles_has_no_other_side(values):
    with pytest.raises(ValueError, match="tiles of"):
        Sizing(**values)


@pytest.mark.slow
def test_uncertainty_is_of_the_whole(nr, wide):
    assert nr.uncertainty(wide).item() == create_metric("bpclip-nr.lite").uncertainty(wide).item()


@pytest.mark.slow
def test_the_command_line(wide, tmp_path, capsys):
    path = tmp_path / "wide.png"
    Image.fromarray(wide.mul(255).round().byte().permute(1, 2, 0).numpy()).save(path)
    metric = ("--metric", "bpclip-nr.lite", "--view", "native")
    assert main(["score", str(path), *metric, "--format", "json"]) == 0
    expected = create_metric("bpclip-nr.lite", view="native")(read_image(path)).item()
    assert f'"score": {expected:.4f}'[:-1] in capsys.readouterr().out
    assert main(["explain", str(path), *metric, "--output", str(tmp_path / "told")]) == 0
    assert "tiles: 2 rows of 2" in capsys.readouterr().out
    assert (tmp_path / "told" / "score-of-each-tile.png").exists()


def test_workers_of_a_pipeline_look_at_tiles(nr, wide):
    image = (wide.permute(1, 2, 0) * 255).byte().numpy()
    scorer = pickle.loads(pickle.dumps(BatchScorer("bpclip-nr.lite", device="cpu", view="native")))
    (row,) = scorer([image])
    assert row.score == pytest.approx(nr(torch.from_numpy(image).permute(2, 0, 1) / 255).item(), abs=1e-6)
    assert row.fingerprint == str(nr.fingerprint) != str(create_metric("bpclip-nr.lite").fingerprint)


@pytest.mark.parametrize("command", ["fleet photos --output out.parquet", "serve", "score a.png"])
def test_every_command_that_scores_has_the_view(command):
    args = build_parser().parse_args([*command.split(), "--metric", "bpclip-nr.lite", "--view", "native"])
    assert args.view == "native"


def test_facts_name_the_worst_tile():
    scores = torch.tensor([[0.5, 0.2], [0.9, 0.6]])
    found = TileScores(scores, torch.ones(2, 2), torch.rand(3, 8, 8))
    assert found.facts() == {
        "score": "0.5500",
        "tiles": "2 rows of 2",
        "worst tile": "0.2000, row 1, column 2",
        "best tile": "0.9000, row 2, column 1",
    }
