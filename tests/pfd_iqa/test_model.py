"""PFD-IQA as a whole: student, teacher, windows, ablations, and that the same image always gets the same score."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from iqametrics.errors import InputError
from iqametrics.metric import Sizing
from iqametrics.nn.backbones import LevelStandardiser
from iqametrics.nn.efficientnet_lite import EfficientNetLite0
from iqametrics.pfd_iqa.config import PfdIqaConfig, PfdTeacherConfig
from iqametrics.pfd_iqa.explain import explain_image
from iqametrics.pfd_iqa.metric import PfdIqaMetric
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.pfd_iqa.teacher import PfdTeacher
from iqametrics.pfd_iqa.windows import window_noise, window_positions

LITE: dict[str, Any] = {
    "encoder": "efficientnet_lite0",
    "crop_space": "feature",
    "grid": 2,
    "crop_size": 64,
    "text_width": 16,
    "n_crops": 4,
    "standardise_levels": True,
}
SMALL = PfdIqaConfig(**LITE, encoder_width=12, sampling_steps=2)


def images(count=3, height=96, width=128, seed=1):
    """Smooth images: of white noise, random features see the borders only."""
    coarse = torch.rand(count, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


@functools.cache
def backbone_state():
    """A backbone whose activations are of order one: fresh BatchNorms let them vanish."""
    torch.manual_seed(0)
    backbone = EfficientNetLite0().train()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        backbone(4 * images(6) - 2)
    return backbone.state_dict()


def lively(model, seed=0):
    """No parameter or buffer left at its start, where biases, gains and prompts are nothing."""
    generator = torch.Generator().manual_seed(seed)
    model.backbone.load_state_dict(backbone_state())
    for name, tensor in model.state_dict().items():
        if not name.startswith("backbone.") and tensor.is_floating_point():
            scale = 1.0 if tensor.ndim < 2 or "prompts" in name else tensor[0].numel() ** -0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    for name, tensor in model.state_dict().items():
        if not name.startswith("backbone.") and name.endswith(("running_var", "level_std")):
            tensor.abs_().add_(0.5)
    return model.eval()


def student(**changes):
    return lively(PfdIqa(dataclasses.replace(SMALL, **changes)))


@pytest.fixture(scope="module")
def small():
    return student()


# The same image always gets the same score


@torch.no_grad()
def test_scores_do_not_depend_on_batch_order_or_generator(small):
    batch = images()
    torch.manual_seed(1)
    first = small(batch)
    torch.manual_seed(2)
    assert torch.equal(first, small(batch))
    assert first.std() > 1e-3  # the images do differ
    alone = torch.cat([small(image[None]) for image in batch])
    torch.testing.assert_close(alone, first, rtol=0, atol=1e-5)
    torch.testing.assert_close(small(batch.flip(0)).flip(0), first, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_seed_decides_the_noise_and_the_noise_matters(small):
    assert (student(seed=1)(images()) - small(images())).abs().max() > 1e-5


@torch.no_grad()
def test_samples_are_averaged_and_their_first_is_the_single_score(small):
    several = student(n_samples=3)
    batch = images(2)
    samples = several.score_samples(several.trunk(batch))
    assert samples.shape == (2, 3)
    torch.testing.assert_close(several(batch), samples.mean(1))
    torch.testing.assert_close(samples[:, 0], small(batch))
    assert (samples.std(1) > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("space", ["feature", "image"])
def test_a_score_is_the_mean_over_halton_windows_each_with_its_own_noise(space):
    model = student(crop_space=space)
    batch = images(2)
    canvas = model.canvas(model.trunk(batch))
    step = 32 if space == "feature" else 1
    assert canvas.shape[-2:] == (96 // step, 128 // step)
    corners = window_positions(96 // step, 128 // step, window=64 // step, count=4)
    scores = []
    for index, (y, x) in enumerate(corners):
        window = canvas[..., y : y + 64 // step, x : x + 64 // step]
        noise = window_noise(index, (16, 2, 2), samples=1, seed=0)
        scores.append(model.finish(model.discover(window), noise.expand(2, -1, -1, -1)).score)
    assert len(scores) == 4
    torch.testing.assert_close(model(batch), torch.stack(scores).mean(0), rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_image_of_one_window_has_one_window(small):
    batch = images(2, 64, 64)
    noise = window_noise(0, (16, 2, 2), samples=1, seed=0).expand(2, -1, -1, -1)
    torch.testing.assert_close(small(batch), small.head(small.trunk(batch), noise=noise).score)


# Trunk, levels and windows


@pytest.mark.slow
@torch.no_grad()
def test_every_number_of_frozen_levels_gives_the_same_score(small):
    batch = images(2, 90, 121)
    for frozen in (1, 3, 4, 5):
        model = student(frozen_levels=frozen)
        model.load_state_dict(small.state_dict())
        trunk = model.trunk(batch)
        assert len(trunk) == frozen
        torch.testing.assert_close(model.score_samples(trunk).mean(1), small(batch), rtol=0, atol=1e-5)
        # A cache leaves out the levels that are not read, and keeps the others in half precision.
        read = range(3, 5) if frozen == 5 else [frozen - 1]
        stored = [level.half() if i in read else level.new_empty(2, 0) for i, level in enumerate(trunk)]
        torch.testing.assert_close(model.score_samples(stored).mean(1), small(batch), rtol=0, atol=2e-2)


def test_freezing_leaves_the_upper_stages_trainable_and_all_norms_frozen():
    model = student(frozen_levels=3).train()
    assert not any(m.training for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d))
    trained = {name.split(".")[1] for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert trained == {"3", "4", "5", "6"}  # stages of levels 4 and 5
    assert all(p.ndim == 4 for p in model.backbone.parameters() if p.requires_grad)
    assert not any(p.requires_grad for p in student(frozen_levels=5).backbone.parameters())
    assert student().backbone.stem[0].weight.requires_grad


@pytest.mark.parametrize("frozen", [0, 3, 5])
def test_gradients_reach_the_image_when_asked(frozen):
    model = student(frozen_levels=frozen)
    batch = images(1).requires_grad_()
    model(batch, differentiable=True).sum().backward()
    assert batch.grad.isfinite().all()
    assert batch.grad.abs().max() > 0
    if frozen:
        assert not any(level.requires_grad for level in model.trunk(batch))


@torch.no_grad()
def test_cells_are_levels_4_and_5_on_one_grid_standardised(small):
    batch = images(2, 90, 121)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    levels = small.backbone((batch - mean) / std)
    fourth, fifth = levels[3].numpy(), levels[4].numpy()
    rows, columns = fifth.shape[-2:]
    assert (rows, columns) == (3, 4)
    assert fourth.shape[-2:] == (6, 8)
    pooled = fourth.reshape(2, -1, 3, 2, 4, 2).mean((3, 5))
    cells = np.concatenate([pooled, fifth], 1)
    expected = (cells - small.level_mean.numpy()) / small.level_std.numpy()
    np.testing.assert_allclose(small.canvas([batch]).numpy(), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_an_odd_level_4_is_averaged_by_partial_windows(small):
    cells = small.raw_cells([images(1, 80, 80)])
    fourth = small.backbone(small._normalise(images(1, 80, 80)))[3]
    assert fourth.shape[-1] == 5
    torch.testing.assert_close(cells[..., :112, 2, 2], fourth[..., 4, 4])
    torch.testing.assert_close(cells[..., :112, 0, 2], fourth[..., 0:2, 4].mean(-1))


@torch.no_grad()
def test_class_token_is_the_mean_over_the_cells(small):
    token, features = small.encode(small.canvas([images(2, 64, 64)]))
    assert features.shape == (2, 12, 2, 2)
    torch.testing.assert_close(token, features.mean((2, 3)))


def test_level_statistics_make_the_cells_standard():
    model = student()
    with torch.no_grad():
        raw = model.raw_cells([images(4)])
        split = [raw[:, :112], raw[:, 112:]]
        model.set_level_statistics([r.mean((0, 2, 3)) for r in split], [r.std((0, 2, 3)) for r in split])
        cells = model.canvas([images(4)])
    torch.testing.assert_close(cells.mean((0, 2, 3)), torch.zeros(432), rtol=0, atol=1e-3)
    torch.testing.assert_close(cells.std((0, 2, 3)), torch.ones(432), rtol=1e-3, atol=0)
    assert "level_mean" in model.state_dict()


def test_a_channel_that_hardly_varies_is_only_centred_in_both_methods():
    # Dividing by rounding noise would blow up what is a constant.
    deviations = torch.full((432,), 2.0)
    deviations[:3] = torch.tensor([0.0, 1e-9, 9e-7])
    model, standardiser = student(), LevelStandardiser([432])
    model.set_level_statistics([torch.zeros(432)], [deviations])
    standardiser.set_statistics([torch.zeros(432)], [deviations])
    assert model.level_std.flatten().tolist() == [1.0] * 3 + [2.0] * 429
    assert torch.equal(model.level_std.flatten(), standardiser.state_dict()["level_std_1"])


def test_pixel_statistics_are_no_part_of_the_checkpoint(small):
    assert not {"pixel_mean", "pixel_std"} & set(small.state_dict())


# Ablations, tables 3 and 4


@torch.no_grad()
def run(model):
    noise = torch.randn(model.noise_shape(2), generator=torch.Generator().manual_seed(0))
    return model.head(model.trunk(images(2, 64, 64)), noise=noise)


def test_without_pda_there_are_no_priors_and_no_text():
    model = student(use_pda=False)
    output = run(model)
    assert output.distortion_logits is None
    assert output.quality_logits is None
    parts = {part for name in model.state_dict() for part in name.split(".")}
    assert not parts & {"priors", "fusion", "distortion_prompts", "quality_prompts", "attentions"}
    with torch.no_grad():
        _, features = model.encode(model.canvas(model.trunk(images(2, 64, 64))))
        plain = model.to_diffusion(features)
    expected = nn.functional.layer_norm(plain.movedim(1, -1), (16,)).movedim(-1, 1)
    torch.testing.assert_close(output.fused, expected)


def test_without_pdr_the_decoder_reads_the_fused_features():
    model = student(use_pdr=False)
    output = run(model)
    assert torch.equal(output.refined, output.fused)
    assert output.gamma.tolist() == [1, 1]
    assert not any(name.startswith("refinement.") for name in model.state_dict())


def test_without_ana_the_noise_has_no_part():
    model = student(use_ana=False)
    trunk = model.trunk(images(2, 64, 64))
    with torch.no_grad():
        scores = [model.head(trunk, noise=torch.full(model.noise_shape(2), value)).score for value in (0.0, 1.0)]
    assert torch.equal(*scores)


def test_without_ppa_the_condition_is_the_mean_prompt():
    model = student(use_ppa=False)
    condition = model.condition(torch.softmax(torch.randn(2, 11), 1), torch.softmax(torch.randn(2, 5), 1))
    means = torch.stack([model.distortion_prompts.mean(0), model.quality_prompts.mean(0)])
    torch.testing.assert_close(condition, means.expand(2, 2, 16))


def test_with_ppa_the_condition_follows_the_image(small):
    with torch.no_grad():
        priors = small.discover(small.canvas(small.trunk(images(2, 64, 64))))
    distortion = priors.distortion_logits.softmax(1) @ small.distortion_prompts
    quality = priors.quality_logits.softmax(1) @ small.quality_prompts
    torch.testing.assert_close(priors.condition, torch.stack([distortion, quality], 1))


def test_the_condition_matters(small):
    with torch.no_grad():
        priors = small.discover(small.canvas(small.trunk(images(2, 64, 64))))
        noise = torch.zeros(small.noise_shape(2))
        other = priors._replace(condition=priors.condition.flip(0))
        assert (small.finish(priors, noise).refined - small.finish(other, noise).refined).abs().max() > 1e-4


# Teacher


def test_teacher_gives_marginals_of_the_joint_distribution():
    teacher = lively(PfdTeacher(PfdTeacherConfig(**{**LITE, "logit_scale": 10.0})))
    with torch.no_grad():
        token, features = teacher.encode(teacher.canvas([images(2, 64, 64)]))
        output = teacher.head([images(2, 64, 64)])
    token, prompts = token.double().numpy(), teacher.joint_prompts.double().numpy()
    cosines = (token @ prompts.T) / np.outer(np.linalg.norm(token, axis=1), np.linalg.norm(prompts, axis=1))
    joint = np.exp(10 * cosines)
    joint /= joint.sum(1, keepdims=True)
    distortion = [[sum(row[5 * d + q] for q in range(5)) for d in range(11)] for row in joint]
    quality = [[sum(row[5 * d + q] for d in range(11)) for q in range(5)] for row in joint]
    np.testing.assert_allclose(output.distortion_probs, distortion, atol=1e-5)
    np.testing.assert_allclose(output.quality_probs, quality, atol=1e-5)
    np.testing.assert_allclose(output.quality, np.array(quality) @ [1, 2, 3, 4, 5], atol=1e-5)
    cells = features.double().numpy()
    expected = (cells - cells.mean(1, keepdims=True)) / np.sqrt(cells.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(output.features, expected, atol=1e-4)


# Paper size


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prompts", [True, False])
def test_half_precision_scores_are_near_those_of_float32(dtype, prompts):
    model = PfdIqa(SMALL)
    model.backbone.load_state_dict(backbone_state())
    if prompts:
        generator = torch.Generator().manual_seed(0)
        model.set_prompts(*(torch.randn(count, 16, generator=generator) for count in (11, 5)))
    model.eval()
    with torch.no_grad():
        expected = model(images(2))
        scores = model.to(dtype)(images(2).to(dtype))
    torch.testing.assert_close(scores.float(), expected, rtol=0, atol=0.05)
    assert torch.equal(model.refinement.alpha_bars, PfdIqa(SMALL).refinement.alpha_bars)


def test_a_half_precision_teacher_without_prompts_is_undecided():
    teacher = PfdTeacher(PfdTeacherConfig(**LITE)).eval().half()
    with torch.no_grad():
        torch.testing.assert_close(teacher(images(1).half()).float(), torch.tensor([3.0]), rtol=0, atol=0.02)


@pytest.mark.slow
def test_paper_size_student_scores_an_image():
    torch.manual_seed(0)
    model = PfdIqa(PfdIqaConfig(n_crops=1)).eval()
    model.set_prompts(torch.randn(11, 512), torch.randn(5, 512))
    # Touvron et al. 2022, table 1: 22 million parameters, of which the classifier of 1000 classes has 385,000.
    assert sum(p.numel() for p in model.backbone.parameters()) == pytest.approx(22.06e6 - 0.385e6, rel=1e-2)
    noise = model.window_noise(1, samples=1)[:, 0]
    output = model.head(model.trunk(images(1, 224, 224)), noise=noise)
    assert output.refined.shape == (1, 512, 14, 14)
    torch.testing.assert_close(model(images(1, 224, 224)), output.score)


# Metric


@pytest.fixture(scope="module")
def metric(small):
    return PfdIqaMetric(student(), Sizing(min_side=64, max_side=256), tag="test")


def test_metric_scores_any_sizes_in_order(metric, small):
    batch = [images(1)[0], images(1, 64, 80)[0], images(1, 40, 40)[0]]
    scores = metric(batch)
    with torch.no_grad():
        expected = torch.cat([small(image[None]) for image in batch[:2]])
    torch.testing.assert_close(scores[:2], expected, rtol=0, atol=1e-5)
    assert scores.isfinite().all()
    assert torch.equal(scores, metric(batch))


def test_metric_as_loss_has_a_gradient(metric):
    metric.as_loss = True
    batch = images(2).requires_grad_()
    loss = metric(batch)
    loss.backward()
    metric.as_loss = False
    assert loss.item() == pytest.approx(1 - metric(images(2)).mean().item(), abs=1e-5)
    assert batch.grad.abs().max() > 0
    assert all(p.grad is None for p in metric.parameters())


def test_noise_spread_is_the_spread_over_draws(metric):
    several = student(n_samples=5)
    with torch.no_grad():
        expected = several.score_samples([images(2)]).std(1)
    torch.testing.assert_close(metric.noise_spread(images(2), samples=5), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match="samples = 1 have no spread; give 2 or more"):
        metric.noise_spread(images(2), samples=1)


def test_explanation_is_of_the_score(metric):
    explanation = metric.explain(images(1))
    assert explanation.score == pytest.approx(metric(images(1)).item(), abs=1e-5)
    assert explanation.score == pytest.approx(np.mean(explanation.window_scores), abs=1e-6)
    assert sum(explanation.distortions.values()) == pytest.approx(1, abs=1e-5)
    assert list(explanation.qualities) == ["bad", "poor", "fair", "good", "perfect"]
    assert 0 < explanation.gamma < 1
    assert explanation.attention.shape == (3, 4)
    assert all(side == 64 and y % 32 == 0 and x % 32 == 0 for y, x, side in explanation.windows)
    with pytest.raises(InputError, match="explain takes one image, not 2"):
        metric.explain(images(2))


def test_attention_of_windows_is_averaged_where_they_overlap():
    model = student(crop_space="image", n_crops=2)
    explanation = explain_image(model, images(1, 64, 80))
    (top, left, side), (_, left2, _) = explanation.windows
    assert (top, side) == (0, 64)
    assert explanation.attention.shape == (64, 80)
    covered = np.zeros(80, bool)
    for start in (left, left2):
        covered[start : start + 64] = True
    assert np.array_equal(~explanation.attention.isnan().numpy().all(0), covered)
    one = explain_image(student(crop_space="image", n_crops=1), images(1, 64, 64))
    assert one.attention.mean().item() == pytest.approx(1, abs=1e-5)
    assert one.attention[:32, :32].unique().numel() == 1
