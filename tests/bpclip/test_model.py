"""BPCLIP's config, trunk and levels, freezing, and objective."""

import dataclasses
import json

import pytest
import torch
from nn_random import randomise
from safetensors.torch import save_file

from iqametrics.bpclip.anchors import load_anchors, make_anchors, read_adjectives
from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.model import Bpclip
from iqametrics.bpclip.objective import BpclipLossConfig, BpclipObjective, rank_loss
from iqametrics.errors import InputError, RecipeError, WeightsError
from iqametrics.objective import Batch, Statistics

LITE = {
    "backbone": "efficientnet_lite0",
    "width": 16,
    "text_width": 8,
    "pixel_mean": [0.5, 0.5, 0.5],
    "pixel_std": [0.5, 0.5, 0.5],
    "similarity": "scaled_cosine",
    "logit_scale": 5,
}


def network(mode, **choices):
    """A small network with visible weights everywhere."""
    built = randomise(Bpclip(BpclipConfig.from_dict(LITE | {"mode": mode} | choices)))
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Order-one BatchNorms would let 16 blocks amplify float32's rounding.
            module.reset_running_stats()
    return built


def photos(count=2, seed=0, height=40, width=65):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


# Config


@pytest.mark.parametrize("mode", ["fr", "nr"])
def test_config_survives_json(mode):
    config = BpclipConfig(mode=mode, width=64, pixel_mean=(0.5, 0.25, 0.125))
    assert BpclipConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": 3}, "model: unknown key 'widht'; did you mean 'width'"),
        ({"mode": "rr"}, "model.mode = 'rr': choose one of 'fr', 'nr'"),
        ({"similarity": "dot"}, "'softmax', 'pairs', 'cosine', 'scaled_cosine'"),
        ({"similarity": "pairs", "n_anchors": 5}, "n_anchors = 5 cannot be paired"),
        ({"feed_forward": -1}, "feed_forward = -1 is impossible; give 0 or more"),
        ({"propagation": "down"}, "'equation', 'progressive'"),
        ({"width": 10, "heads": 4}, "divisible by heads = 4"),
        ({"width": "wide"}, "should be of type int"),
        ({"width": 64.0}, "should be of type int"),
        ({"dropout": 1}, "dropout = 1.0"),
        ({"frozen_levels": 6}, "0 to 5"),
        ({"n_anchors": 0}, "from 1 up"),
        ({"logit_scale": 0}, "above 0"),
        ({"standardise_levels": 1}, "should be of type bool"),
        ({"pixel_std": [1, 1]}, "pixel_std = .* should have 3 entries"),
        ({"pixel_std": [1, 1, "x"]}, "pixel_std.2. = 'x': should be of type float"),
        ({"information_branch": False, "weight_branch": False}, "at least one"),
    ],
)
def test_impossible_configs_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        BpclipConfig.from_dict({"mode": "nr"} | values)


@pytest.mark.parametrize("values", [{"mode": "rr"}, {"similarity": "dot"}, {"pixel_std": (1.0, 1.0)}])
def test_impossible_configs_are_refused_in_code_too(values):
    with pytest.raises(RecipeError, match=next(iter(values))):
        BpclipConfig(**{"mode": "nr"} | values)


def test_a_config_without_mode_is_refused():
    with pytest.raises(RecipeError, match="model: mode is missing; add it, one of 'fr', 'nr'"):
        BpclipConfig.from_dict({})


def test_an_unknown_backbone_is_refused():
    with pytest.raises(RecipeError, match="choose one of"):
        Bpclip(BpclipConfig(mode="nr", backbone="vgg16"))


# Trunk, levels, head


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fr", "nr"])
@pytest.mark.parametrize("frozen", [0, 3, 5])
@torch.no_grad()
def test_every_way_to_the_score_gives_the_same(mode, frozen):
    """Images, trunk features and held levels; one at a time and in a batch; one reference for all."""
    model = network(mode, frozen_levels=frozen)
    dist, ref = photos(), photos(seed=9) if mode == "fr" else None
    expected = network(mode, frozen_levels=0)(dist, ref)  # the same function, whatever is frozen
    assert expected.std() > 1e-3
    ref_trunk = None if ref is None else model.trunk(ref)
    ref_levels = None if ref is None else model.levels(ref_trunk)
    dist_trunk = model.trunk(dist)
    assert len(dist_trunk) == max(frozen, 1)
    for scores in (
        model(dist, ref),
        model.head(dist_trunk, ref_trunk),
        model.score_levels(model.levels(dist_trunk), ref_levels),
        torch.cat([model(dist[n : n + 1], None if ref is None else ref[n : n + 1]) for n in range(2)]),
    ):
        torch.testing.assert_close(scores, expected, atol=2e-4, rtol=2e-4)
    if ref is not None:
        one = [level[:1] for level in ref_levels]
        repeated = model(dist, ref[:1].expand_as(ref))
        torch.testing.assert_close(model.score_levels(model.levels(dist_trunk), one), repeated, atol=2e-4, rtol=2e-4)


@torch.no_grad()
def test_nothing_is_trained_or_normalised_at_zero_frozen_levels():
    images = photos()
    assert network("nr").trunk(images)[0] is images


def test_gradients_reach_images_only_where_asked():
    model = network("nr", frozen_levels=3).requires_grad_(False)
    images = photos().requires_grad_(True)
    assert not model.trunk(images)[-1].requires_grad
    model.head(model.trunk(images, differentiable=True)).sum().backward()
    assert images.grad.abs().max() > 0
    with torch.no_grad():
        assert not model.trunk(images, differentiable=True)[-1].requires_grad


@pytest.mark.parametrize("frozen", [0, 4, 5])
def test_training_leaves_frozen_levels_and_batch_norms_alone(frozen):
    model = network("nr", frozen_levels=frozen, dropout=0.0).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model(photos()).square().sum().backward()
    optimiser.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    backbone = {name for name in changed if name.startswith("backbone.")}
    assert not any("running" in name for name in changed)
    assert "similarity.anchors" not in changed
    assert {"similarity.log_tau", "score.out.weight", "pooling.0.value.weight", "position.rows"} <= changed
    if frozen == 5:
        assert not backbone
    else:
        stages = {name.split(".")[2] for name in backbone if "stages" in name}
        assert stages == ({"5", "6"} if frozen == 4 else set("0123456"))
        assert ("backbone.stem.0.weight" in backbone) == (frozen == 0)


@torch.no_grad()
def test_references_are_checked():
    images = photos()
    with pytest.raises(InputError, match="leave it out"):
        network("nr")(images, images)
    with pytest.raises(InputError, match="give one for each"):
        network("fr")(images)
    with pytest.raises(InputError, match="differ in shape"):
        network("fr")(images, images[..., :64])


@torch.no_grad()
def test_dropout_acts_in_training_only():
    model = network("nr", frozen_levels=5, dropout=0.5)
    levels = model.trunk(photos(height=128, width=128))
    assert torch.equal(model.head(levels), model.head(levels))
    model.train()
    assert not torch.equal(model.head(levels), model.head(levels))


@torch.no_grad()
def test_standardised_levels_have_mean_zero_and_deviation_one():
    model = network("nr", standardise_levels=True)
    levels = model.levels(model.trunk(photos()))
    model.set_level_statistics([x.mean((0, 2, 3)) for x in levels], [x.std((0, 2, 3)) for x in levels])
    for level in model.standardise(levels):
        torch.testing.assert_close(level.mean((0, 2, 3)), torch.zeros(level.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(level.std((0, 2, 3)), torch.ones(level.shape[1]), atol=1e-3, rtol=0)
    flat = [torch.zeros(x.shape[1]) for x in levels]
    model.set_level_statistics(flat, flat)  # a channel that never varies is centred only
    assert torch.equal(model.standardise(levels)[0], levels[0])
    assert {"standardise.level_mean_1", "standardise.level_std_5"} <= set(model.state_dict())


def test_paper_size():
    """ResNet-50 has 23.5 million parameters without its classifier; the paper calls the whole model light."""
    with torch.device("meta"):
        model = Bpclip(BpclipConfig(mode="fr"))
    assert sum(p.numel() for p in model.backbone.parameters()) == 25_557_032 - 2048 * 1000 - 1000
    assert sum(p.numel() for p in model.parameters()) < 32e6
    assert model.similarity.anchors.shape == (40, 1024)
    assert model.similarity.log_tau.shape == ()
    assert (
        Bpclip(BpclipConfig.from_dict(LITE | {"mode": "fr", "logit_scale": 100})).similarity.log_tau.exp().round()
        == 100
    )


# Anchors


def test_adjectives_are_twenty_pairs_in_six_dimensions():
    adjectives = read_adjectives()
    assert len(adjectives) == len({adjective.word for adjective in adjectives}) == 40
    assert len({adjective.dimension for adjective in adjectives}) == 6
    for good, bad in zip(adjectives[::2], adjectives[1::2], strict=True):
        assert (good.positive, bad.positive) == (True, False)
        assert good.dimension == bad.dimension
    assert adjectives[9].prompt == "a photo with blurry quality."


def test_anchors_are_the_prompts_in_order():
    anchors = make_anchors(lambda texts: torch.tensor([[len(text)] for text in texts]))
    assert anchors.flatten().tolist() == [len(adjective.prompt) for adjective in read_adjectives()]


def test_anchor_files_are_checked(tmp_path):
    path = tmp_path / "anchors.safetensors"
    save_file({"anchors": torch.arange(6.0).view(3, 2)}, path)
    assert load_anchors(path, 3, 2)[2].tolist() == [4, 5]
    with pytest.raises(WeightsError, match=r"anchors should have shape \(40, 8\) but is \(3, 2\); .*text_width"):
        load_anchors(path, 40, 8)
    save_file({"other": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="make_anchors"):
        load_anchors(path, 3, 2)
    with pytest.raises(WeightsError, match="not a readable"):
        load_anchors(tmp_path / "none.safetensors", 3, 2)
    with pytest.raises(InputError, match="do not fit"):
        network("nr").set_anchors(torch.ones(3, 2))


# Objective


def batch(objective, count=3):
    mode = objective.model.config.mode
    ref = None if mode == "nr" else objective.trunk(photos(count, seed=9))
    labels = torch.zeros(count, dtype=torch.int64)
    return Batch(objective.trunk(photos(count)), ref, torch.linspace(0.2, 0.8, count), labels - 1, labels)


@pytest.mark.parametrize("name", ["bpclip-fr", "bpclip-nr"])
def test_objective_from_recipe(name, tmp_path):
    source = network("nr")
    save_file(source.backbone.state_dict(), tmp_path / "backbone.safetensors")
    save_file({"anchors": torch.arange(320.0).view(40, 8)}, tmp_path / "anchors.safetensors")
    init = {part: str(tmp_path / f"{part}.safetensors") for part in ("backbone", "anchors")}
    objective = BpclipObjective.from_recipe(name, LITE | {"loss": {"rank_weight": 0.5}}, init)
    assert objective.model.config.mode == name[-2:]
    assert objective.needs_reference == (name == "bpclip-fr")
    assert objective.model.similarity.anchors[39, 7] == 319
    assert torch.equal(objective.model.backbone.stem[0].weight, source.backbone.stem[0].weight)
    total, parts = objective.loss(batch(objective))
    torch.testing.assert_close(total, parts["mse"] + 0.5 * parts["rank"])
    assert not parts["mse"].requires_grad


@pytest.mark.parametrize(
    ("name", "model", "init", "message"),
    [
        ("bpclip", {}, {}, "choose one of bpclip-fr, bpclip-nr"),
        ("bpclip-fr", {"mode": "nr"}, {}, "contradicts"),
        ("bpclip-fr", {}, {"anchor": "x"}, "unknown init keys: anchor"),
        ("bpclip-fr", {"loss": {"mae": 1}}, {}, "model.loss: unknown key 'mae'"),
        ("bpclip-fr", {"loss": {"mse_weight": -1}}, {}, "from 0 up"),
        ("bpclip-fr", {"loss": {"mse_weight": 0}}, {}, "no score would be learnt"),
        ("bpclip-nr", {"frozen_levels": 0}, {}, r"init\.anchors is missing: .*model\.text_anchors = false"),
        ("bpclip-nr", {"frozen_levels": 2}, {"anchors": "x"}, r"init\.backbone is missing: 2 .*frozen_levels = 0"),
    ],
)
def test_impossible_recipes_are_refused(name, model, init, message):
    with pytest.raises(RecipeError, match=message):
        BpclipObjective.from_recipe(name, LITE | model, init)


def test_the_default_loss_is_equation_10():
    """Mean of squares, by hand: ((0.5 - 0.2)^2 + (0.5 - 0.5)^2 + (0.5 - 0.8)^2) / 3."""
    objective = BpclipObjective(network("nr", frozen_levels=5))
    with torch.no_grad():
        objective.model.score.out.weight.zero_()
    statistics = Statistics(0.5, 0.1, (torch.zeros(1),) * 5, (torch.ones(1),) * 5)
    objective.initialise(statistics)
    total, parts = objective.loss(batch(objective))
    torch.testing.assert_close(total, torch.tensor(0.06))
    assert set(parts) == {"mse"}
    assert BpclipLossConfig() == BpclipLossConfig(mse_weight=1.0, rank_weight=0.0)


def test_rank_loss_by_hand():
    """Pairs with i better than j: (0, 1) wrong by 2, (0, 2) right, (1, 2) right; image 3 is of another source."""
    scores = torch.tensor([1.0, 3.0, 0.0, 99.0], requires_grad=True)
    mos, source = torch.tensor([0.9, 0.5, 0.1, 0.0]), torch.tensor([0, 0, 0, 1])
    loss = rank_loss(scores, mos, source)
    assert loss.item() == pytest.approx(2 / 3)
    loss.backward()
    assert scores.grad.tolist() == pytest.approx([-1 / 3, 1 / 3, 0, 0])
    assert rank_loss(scores, torch.ones(4), source) == 0


def test_statistics_of_the_training_data_are_stored():
    objective = BpclipObjective(network("nr", frozen_levels=3, standardise_levels=True))
    levels = objective.statistics_levels(objective.trunk(photos()))
    assert [level.shape[1] for level in levels] == [16, 24, 40, 112, 320]
    means, stds = (tuple(reduce(x, (0, 2, 3)) for x in levels) for reduce in (torch.mean, torch.std))
    objective.initialise(Statistics(0.37, 0.1, means, stds))
    assert objective.model.score.out.bias.item() == pytest.approx(0.37)
    assert torch.equal(objective.model.state_dict()["standardise.level_mean_4"], means[3])


def test_predictions_are_deterministic_and_keep_the_mode():
    objective = BpclipObjective(network("fr", frozen_levels=5, dropout=0.9)).train()
    one = batch(objective)
    assert torch.equal(objective.predict(one), objective.predict(one))
    assert objective.model.training
    assert torch.equal(objective.predict(dataclasses.replace(one, mos=one.mos + 1)), objective.predict(one))


@pytest.mark.slow
def test_a_small_set_is_learnt():
    """The whole chain can be trained: a few steps bring the error down by far."""
    torch.manual_seed(0)
    objective = BpclipObjective(Bpclip(BpclipConfig.from_dict(LITE | {"mode": "nr", "frozen_levels": 5})))
    labels = torch.zeros(4, dtype=torch.int64)
    levels = [torch.randn(4, c, 32 // 2**i, 32 // 2**i) for i, c in enumerate((16, 24, 40, 112, 320))]
    one = Batch(levels, None, torch.linspace(0.2, 0.8, 4), labels, labels)
    optimiser = torch.optim.AdamW(objective.parameter_groups(3e-3, 1e-4, 1e-5))
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss, _ = objective.loss(one)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
