import pytest
import torch

from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.model import Bpclip
from iqametrics.bpclip.objective import BpclipObjective
from iqametrics.errors import RecipeError
from iqametrics.metric import Sizing
from iqametrics.objective import Batch
from iqametrics.ranking import UNCHAINED
from iqametrics.training.cache import FeatureCache
from iqametrics.weights.checkpoint import load_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER

LITE = WEIGHTS_FOLDER / "bpclip-nr.lite.safetensors"
SMALL = {"backbone": "efficientnet_lite0", "width": 8, "heads": 2, "text_width": 16, "n_anchors": 4, "score_hidden": 8}


def lite_objective(**changes):
    config = load_checkpoint(LITE)[0]["config"]
    return BpclipObjective.from_recipe("bpclip-nr", {**config, **changes}, {"checkpoint": str(LITE)}).eval()


def batch(dist, mos, chains=None):
    count = len(mos)
    return Batch(dist, None, mos, torch.zeros(count), torch.zeros(count), chains=chains)


def test_frozen_pooling_changes_no_score_and_trains_nothing_before_the_reduction():
    whole = lite_objective(frozen_levels=5)
    pooled = lite_objective(frozen_levels=5, frozen_pooling=True)
    images = torch.rand(2, 3, 96, 128)
    expected = whole.predict(batch(whole.trunk(images), torch.zeros(2)))
    means = pooled.trunk(images)
    assert [tuple(level.shape[2:]) for level in means] == [(3, 4)] * 5
    torch.testing.assert_close(pooled.predict(batch(means, torch.zeros(2))), expected)
    trained = {name for name, value in pooled.model.named_parameters() if value.requires_grad}
    assert not [name for name in trained if name.startswith(("backbone", "pooling")) and ".reduce." not in name]
    assert "pooling.0.reduce.0.weight" in trained


def test_the_cache_crops_pooled_means_by_cells_and_its_key_knows_the_gates(tmp_path):
    from PIL import Image

    path = tmp_path / "image.png"
    Image.effect_noise((128, 96), 50).convert("RGB").save(path)
    objective = lite_objective(frozen_levels=5, frozen_pooling=True)
    cache = FeatureCache(tmp_path / "cache", objective, Sizing(min_side=32), "float32")
    cache.build([path], workers=1)
    whole = cache.maps(path)
    for level, crop in zip(whole, cache.windows(path, top=1, left=2, cells=2), strict=True):
        assert crop.shape[1:] == (2, 2)
        assert (crop == level[:, 1:3, 2:4]).all()
    with torch.no_grad():
        objective.model.pooling[0].gate.phi[0].weight[0] += 1
    assert FeatureCache(tmp_path / "cache", objective, Sizing(min_side=32), "float32").folder != cache.folder


def test_ranks_are_no_scores():
    """Of a batch with versions, the error counts the scored images only, and the order the others only."""
    objective = BpclipObjective.from_recipe(
        "bpclip-nr", {**SMALL, "text_anchors": False, "loss": {"order_weight": 2.0}}, {}
    )
    images = torch.rand(5, 3, 64, 64)
    chains = torch.tensor([UNCHAINED, UNCHAINED, (0, -1), (0, 3), (0, 3)])
    mos = torch.tensor([0.2, 0.7, 1.0, 0.9, 0.5])
    objective.eval()
    scores = objective.predict(batch([images], mos))
    total, parts = objective.loss(batch([images], mos, chains))
    assert float(parts["mse"]) == pytest.approx(float((scores[:2] - mos[:2]).square().mean()))
    expected = sum(
        max(0.0, 0.4 * float(mos[i] - mos[j]) - float(scores[i] - scores[j])) for i, j in ((2, 3), (2, 4), (3, 4))
    )
    assert float(parts["order"]) == pytest.approx(expected / 3, rel=1e-4)
    assert float(total.detach()) == pytest.approx(float(parts["mse"] + 2 * parts["order"]), rel=1e-5)


def test_frozen_pooling_needs_a_trained_checkpoint_and_no_reference():
    with pytest.raises(RecipeError, match=r"init\.checkpoint is missing"):
        BpclipObjective.from_recipe(
            "bpclip-nr",
            {**SMALL, "text_anchors": False, "frozen_levels": 5, "frozen_pooling": True},
            {"backbone": str(WEIGHTS_FOLDER / "efficientnet_lite0.safetensors")},
        )
    with pytest.raises(RecipeError, match="frozen_pooling = true needs mode = 'nr'"):
        BpclipObjective.from_recipe("bpclip-fr", {**SMALL, "frozen_levels": 5, "frozen_pooling": True}, {})


@pytest.mark.parametrize("sign", [1, -1])
def test_a_relative_score_is_the_drop_from_the_identical_pair(sign):
    """With the sign of the last layer turned, what was below the identical pair is above it."""
    values = {**SMALL, "mode": "fr", "text_anchors": False, "dropout": 0.0}
    torch.manual_seed(0)
    plain = Bpclip(BpclipConfig.from_dict(values)).eval()
    relative = Bpclip(BpclipConfig.from_dict({**values, "relative": True})).eval()
    dist, ref = torch.rand(3, 3, 64, 64), torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        plain.score.out.weight *= sign * 1000
        relative.load_state_dict(plain.state_dict())
        torch.testing.assert_close(relative(ref, ref), torch.ones(3))
        gaps = plain(dist, ref) - plain(ref, ref)
        assert (sign * gaps < -0.01).all()
        torch.testing.assert_close(relative(dist, ref), 1 + gaps if sign > 0 else torch.ones(3))
        torch.testing.assert_close(relative.train()(dist, ref), 1 + gaps)  # what is above 1 is learnt from
        relative.eval()
        one = plain.levels(plain.trunk(ref[:1]))
        held = relative.score_levels(relative.levels(relative.trunk(dist)), one)
        gaps = plain(dist, ref[:1].expand(3, -1, -1, -1)) - plain(ref[:1], ref[:1])
        torch.testing.assert_close(held, 1 + gaps.clamp(max=0))
    with pytest.raises(RecipeError, match="relative = true"):
        BpclipConfig.from_dict({**SMALL, "mode": "nr", "relative": True})
