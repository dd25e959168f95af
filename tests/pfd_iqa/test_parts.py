"""PFD-IQA, block by block: each against a small working of its equation in NumPy, or another library."""

import json
import math
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn

from iqametrics.errors import RecipeError
from iqametrics.nn.attention import MultiHeadAttention
from iqametrics.pfd_iqa.config import PfdIqaConfig, PfdTeacherConfig
from iqametrics.pfd_iqa.decoder import PanelDecoder
from iqametrics.pfd_iqa.fusion import PriorFusion, channel_layer_norm
from iqametrics.pfd_iqa.losses import distortion_fidelity, fidelity, pairwise_fidelity
from iqametrics.pfd_iqa.priors import (
    PriorDiscovery,
    PriorReconstructor,
    aggregate_prompts,
    channel_mask,
    prior_divergence,
    prompt_logits,
)
from iqametrics.pfd_iqa.prompts import DISTORTIONS, QUALITIES, distortion_prompts, joint_prompts, quality_prompts
from iqametrics.pfd_iqa.refinement import (
    BottleneckBlock,
    Denoiser,
    DiffusionRefinement,
    NoiseAlignment,
    TextCrossAttention,
    folded_attention,
)
from iqametrics.pfd_iqa.windows import window_noise, window_positions

LITE: dict[str, Any] = {"encoder": "efficientnet_lite0", "crop_space": "feature", "grid": 2, "crop_size": 64}


def randomise(module, seed=0):
    """Every parameter and buffer at order one, variances positive; float64."""
    module.double()
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.data = part.running_var.abs() + 0.5
    return module.eval()


def random(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def conv1x1(layer, x):
    weight, bias = layer.weight.detach().numpy()[:, :, 0, 0], layer.bias.detach().numpy()
    return np.einsum("oc,nchw->nohw", weight, x) + bias[None, :, None, None]


def norm_groups(layer, x):
    groups = x.reshape(len(x), layer.num_groups, -1)
    mean, var = groups.mean(-1, keepdims=True), groups.var(-1, keepdims=True)
    flat = ((groups - mean) / np.sqrt(var + layer.eps)).reshape(x.shape)
    weight, bias = (p.detach().numpy()[None, :, None, None] for p in (layer.weight, layer.bias))
    return flat * weight + bias


def close(result, expected, **kwargs):
    np.testing.assert_allclose(result.detach().numpy(), expected, **{"rtol": 1e-9, "atol": 1e-9, **kwargs})


# Prompts


def test_the_lists_are_liqes():
    assert (len(DISTORTIONS), len(QUALITIES)) == (11, 5)
    assert distortion_prompts()[0] == "a photo with jpeg2000 compression artifacts."
    assert quality_prompts() == [f"a photo with {q} quality." for q in ("bad", "poor", "fair", "good", "perfect")]


def test_joint_prompts_are_distortion_major():
    prompts = joint_prompts()
    assert len(set(prompts)) == 55
    for d, distortion in enumerate(DISTORTIONS):
        for q, quality in enumerate(QUALITIES):
            assert prompts[5 * d + q] == f"a photo with {distortion} artifacts, which is of {quality} quality"


# Priors, equations 1 to 6


def test_the_mask_hits_a_share_beta_of_the_channels_and_each_sample_has_its_own_generator():
    mask = channel_mask([torch.Generator().manual_seed(seed) for seed in range(200)], 500, 0.15)
    assert mask.shape == (200, 500, 1, 1)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    # 100,000 draws: four standard deviations are 0.0045.
    assert 1 - mask.mean().item() == pytest.approx(0.15, abs=0.0045)
    torch.manual_seed(3)
    assert torch.equal(mask[3, :, 0, 0], (torch.rand(500) >= 0.15).float())


def test_reconstructor_is_equation_2():
    module, x = randomise(PriorReconstructor(4, norm="batch")), random(2, 4, 3, 3)
    hidden = conv1x1(module.inner, x.numpy())
    mean, var = (b.numpy()[None, :, None, None] for b in (module.norm.running_mean, module.norm.running_var))
    weight, bias = (p.detach().numpy()[None, :, None, None] for p in (module.norm.weight, module.norm.bias))
    hidden = np.maximum((hidden - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)
    close(module(x), conv1x1(module.outer, hidden))


def test_reconstructor_with_group_norm_looks_at_one_sample_only():
    module, x = randomise(PriorReconstructor(4, norm="group")).train(), random(3, 4, 3, 3)
    hidden = np.maximum(norm_groups(module.norm, conv1x1(module.inner, x.numpy())), 0)
    close(module(x), conv1x1(module.outer, hidden))
    close(module(x[:1]), module(x)[:1].detach().numpy())


def test_discovery_masks_where_it_is_given_a_mask_and_does_not_rescale():
    module, x = randomise(PriorDiscovery(3, 4, norm="group")), random(2, 3, 2, 2)
    aligned = conv1x1(module.align, x.numpy())
    for result, part in zip(module(x), (module.distortion, module.quality), strict=True):
        close(result, part(torch.from_numpy(aligned)).detach().numpy())
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0]])[..., None, None]
    masked = aligned * mask.double().numpy()
    for result, part in zip(module(x, mask), (module.distortion, module.quality), strict=True):
        close(result, part(torch.from_numpy(masked)).detach().numpy())


def test_logits_are_scaled_cosines():
    prior, prompts = random(2, 6, 3, 3), random(5, 6, seed=2)
    pooled = prior.numpy().mean((2, 3))
    expected = [[100 * (p @ g) / math.sqrt((p @ p) * (g @ g)) for g in prompts.numpy()] for p in pooled]
    close(prompt_logits(prior, prompts, scale=100.0), expected)


def test_divergence_is_kullback_leibler_of_teacher_from_student():
    logits, target = random(3, 5), torch.softmax(random(3, 5, seed=2), dim=1)
    target[0] = torch.tensor([1.0, 0, 0, 0, 0])  # 0 log 0 counts nothing
    predicted = scipy.special.softmax(logits.numpy(), axis=1)
    expected = np.mean([scipy.stats.entropy(p, q) for p, q in zip(target.numpy(), predicted, strict=True)])
    assert prior_divergence(target, logits).item() == pytest.approx(expected)
    assert prior_divergence(torch.softmax(logits, 1), logits).item() == pytest.approx(0, abs=1e-12)


def test_aggregation_is_the_weighted_sum_of_prompts():
    weights, prompts = torch.softmax(random(2, 3), 1), random(3, 4, seed=2)
    expected = [sum(w * g for w, g in zip(row, prompts.numpy(), strict=True)) for row in weights.numpy()]
    close(aggregate_prompts(weights, prompts), expected)


# Fusion, equation 7


def test_fusion_is_equation_7():
    module = randomise(PriorFusion(4, 6))
    features, distortion, quality = random(2, 4, 3, 3), random(2, 6, 3, 3, seed=2), random(2, 6, 3, 3, seed=3)
    prior = conv1x1(module.proj, (distortion + quality).numpy())
    prior = prior / (1 + np.exp(-prior))
    normed = norm_groups(module.norm, features.numpy())
    assert module.norm.num_groups == 1
    expected = conv1x1(module.scale, prior) * normed + conv1x1(module.shift, prior) + features.numpy()
    close(module(features, distortion, quality), expected)


def test_channel_layer_norm_gives_each_cell_mean_zero_and_variance_one():
    x = random(2, 8, 3, 4).numpy()
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    close(channel_layer_norm(torch.from_numpy(x)), expected)


# Refinement, equations 8 to 12


def conv3x3(layer, x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    weight, (h, w) = layer.weight.detach().numpy(), x.shape[-2:]
    out = sum(
        np.einsum("oc,nchw->nohw", weight[:, :, i, j], padded[:, :, i : i + h, j : j + w])
        for i in range(3)
        for j in range(3)
    )
    return out + layer.bias.detach().numpy()[None, :, None, None]


def bottleneck(block, x):
    out = conv1x1(block.conv1, np.maximum(norm_groups(block.norm1, x), 0))
    out = conv3x3(block.conv2, np.maximum(norm_groups(block.norm2, out), 0))
    return x + conv1x1(block.conv3, np.maximum(norm_groups(block.norm3, out), 0))


def test_bottleneck_block():
    block, x = randomise(BottleneckBlock(8)), random(2, 8, 4, 5)
    assert block.conv2.weight.shape == (2, 2, 3, 3)  # reduction 4
    close(block(x), bottleneck(block, x.numpy()))


@pytest.mark.parametrize(("tokens", "heads"), [(1, 1), (2, 2), (2, 4), (3, 8)])
def test_folded_attention_equals_attention(tokens, heads):
    attention = randomise(MultiHeadAttention(16, heads))
    queries, memory = random(3, 25, 16), random(3, tokens, 16, seed=2)
    oracle = nn.MultiheadAttention(16, heads, batch_first=True).double()
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        oracle.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        oracle.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        oracle.out_proj.load_state_dict(attention.out.state_dict())
        expected = oracle(queries, memory, memory)[0]
    close(folded_attention(attention, queries.transpose(1, 2), memory), expected.transpose(1, 2).numpy())
    close(attention(queries, memory), expected.numpy())


def test_folded_attention_projects_no_token_of_the_map(monkeypatch):
    attention, queries, memory = MultiHeadAttention(16, 2), torch.randn(1, 16, 196), torch.randn(1, 2, 16)
    projected = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr("torch.nn.functional.linear", lambda x, *args: projected.append(x.shape) or linear(x, *args))
    folded_attention(attention, queries, memory)
    assert projected == [memory.shape, memory.shape]  # keys and values of the two text tokens


def test_text_cross_attention_is_residual_and_normalises_both_sides():
    module, x, text = randomise(TextCrossAttention(8, 2)), random(2, 8, 3, 3), random(2, 2, 8, seed=2)
    queries = torch.from_numpy(norm_groups(module.norm, x.numpy())).flatten(2).transpose(1, 2)
    attended = module.attention(queries, module.norm_text(text)).transpose(1, 2).unflatten(2, (3, 3))
    close(module(x, text), (x + attended).detach().numpy())


@pytest.mark.parametrize("alignment", ["equation", "variance_preserving"])
def test_alignment_is_equation_10(alignment):
    module, fused, noise = randomise(NoiseAlignment(8, alignment)), random(2, 8, 3, 3), random(2, 8, 3, 3, seed=2)
    pooled = bottleneck(module.bottleneck, fused.numpy()).mean((2, 3))
    logit = pooled @ module.weight.weight.detach().numpy()[0] + module.weight.bias.item()
    gamma = 1 / (1 + np.exp(-logit))
    close(module(fused), gamma)
    gamma = gamma[:, None, None, None]
    other = 1 - gamma if alignment == "equation" else np.sqrt(1 - gamma**2)
    close(module.mix(fused, module(fused), noise), gamma * fused.numpy() + other * noise.numpy())


@pytest.mark.parametrize("conditional", [True, False])
def test_denoiser_is_two_blocks_each_with_attention_and_a_convolution(conditional):
    module = randomise(Denoiser(8, heads=2, conditional=conditional))
    assert len(module.attentions) == (2 if conditional else 0)
    noisy, text, times = random(2, 8, 3, 3), random(2, 2, 8, seed=2), torch.tensor([7, 400])
    angles = times.numpy()[:, None] * 10_000.0 ** (-np.arange(4) / 4)
    embedding = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    first, second = module.time[0], module.time[2]
    hidden = embedding @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    hidden = hidden / (1 + np.exp(-hidden))
    x = noisy.numpy() + (hidden @ second.weight.detach().numpy().T + second.bias.detach().numpy())[:, :, None, None]
    for index, block in enumerate(module.blocks):
        x = bottleneck(block, x)
        if conditional:
            x = module.attentions[index](torch.from_numpy(x), text).detach().numpy()
    # The embedding is computed in float32.
    close(module(noisy, text, times), conv1x1(module.out, x), rtol=1e-3, atol=1e-3)


class ExactDenoiser(nn.Module):
    """Knows F_0, and so the noise in whatever it is given."""

    def __init__(self, clean, alpha_bars):
        super().__init__()
        self.clean, self.alpha_bars, self.times = clean, alpha_bars, []

    def forward(self, noisy, condition, times):
        self.times.append(times.tolist())
        level = self.alpha_bars[times].view(-1, 1, 1, 1)
        return (noisy - level.sqrt() * self.clean) / (1 - level).sqrt()


def test_refinement_denoises_from_the_start_step():
    config = PfdIqaConfig(**LITE, encoder_width=6, text_width=8)
    module = randomise(DiffusionRefinement(config))
    module.alpha_bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    clean = random(2, 8, 2, 2)
    module.add_module("denoiser", ExactDenoiser(clean, module.alpha_bars))
    refined, gamma = module(random(2, 8, 2, 2, seed=2), None, random(2, 8, 2, 2, seed=3))
    close(refined, clean.numpy())
    assert module.denoiser.times == [[t, t] for t in (500, 400, 300, 200, 100)]
    assert ((gamma > 0) & (gamma < 1)).all()


def test_refinement_without_alignment_takes_the_features_as_they_are():
    module = DiffusionRefinement(PfdIqaConfig(**LITE, encoder_width=6, text_width=8, use_ana=False)).eval()
    fused, text = random(2, 8, 2, 2).float(), random(2, 2, 8).float()
    first, gamma = module(fused, text, torch.zeros(2, 8, 2, 2))
    second, _ = module(fused, text, torch.ones(2, 8, 2, 2))
    assert torch.equal(first, second)
    assert torch.equal(gamma, torch.ones(2))


def test_trajectory_loss_is_the_mean_squared_error_of_the_noise():
    module = DiffusionRefinement(PfdIqaConfig(**LITE, encoder_width=6, text_width=8, timesteps=600))
    clean, text = random(4, 8, 2, 2).float(), random(4, 2, 8).float()
    times, noise = torch.tensor([0, 599, 7, 300]), random(4, 8, 2, 2, seed=5).float()
    loss = module.trajectory_loss(clean, text, times=times, noise=noise)
    a = module.alpha_bars[times].numpy()[:, None, None, None]
    noisy = np.sqrt(a) * clean.numpy() + np.sqrt(1 - a) * noise.numpy()
    error = module.denoiser(torch.from_numpy(noisy), text, times) - noise
    assert loss.item() == pytest.approx((error**2).mean().item(), rel=1e-5)
    module.add_module("denoiser", ExactDenoiser(clean, module.alpha_bars))
    assert module.trajectory_loss(clean, None, times=times, noise=noise).item() < 1e-6


# Decoder


def torch_decoder(decoder):
    """The same layer of torch.nn, an independent implementation."""
    width = decoder.panel.shape[1]
    layer = nn.TransformerDecoderLayer(
        width, decoder.cross_attention.heads, 4 * width, dropout=0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    pairs = ((layer.self_attn, decoder.self_attention), (layer.multihead_attn, decoder.cross_attention))
    with torch.no_grad():
        for theirs, ours in pairs:
            parts = (ours.query, ours.key, ours.value)
            theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            theirs.out_proj.load_state_dict(ours.out.state_dict())
    layer.norm1.load_state_dict(decoder.norm_self.state_dict())
    layer.norm2.load_state_dict(decoder.norm_cross.state_dict())
    layer.norm3.load_state_dict(decoder.norm_mlp.state_dict())
    layer.linear1.load_state_dict(decoder.mlp.fc1.state_dict())
    layer.linear2.load_state_dict(decoder.mlp.fc2.state_dict())
    return layer.eval()


def test_decoder_is_a_transformer_decoder_layer_over_a_panel():
    decoder = randomise(PanelDecoder(5, 8, heads=2, panel=3))
    features, token = random(2, 5, 3, 4), random(2, 8, seed=2)
    memory = torch.from_numpy(conv1x1(decoder.memory, features.numpy())).flatten(2).transpose(1, 2)
    queries = torch.stack([token + decoder.panel[i] for i in range(3)], dim=1)
    with torch.no_grad():
        opinions = decoder.score(decoder.norm(torch_decoder(decoder)(queries, memory)))[..., 0]
    close(decoder(features, token), opinions.mean(1).numpy())
    # The panel does not agree with itself, so the mean is a real one.
    assert opinions.std(1).min() > 1e-3


def test_decoder_attention_is_a_distribution_over_the_cells():
    decoder = randomise(PanelDecoder(5, 8, heads=2, panel=3))
    attention = decoder.attention(random(2, 5, 3, 4), random(2, 8, seed=2))
    assert attention.shape == (2, 3, 4)
    close(attention.sum((1, 2)), np.ones(2))
    assert (attention > 0).all()


# Fidelity losses of the teacher


def test_fidelity_by_hand():
    p, q = np.array([0.0, 0.3, 0.5, 1.0]), np.array([0.2, 0.3, 0.9, 1.0])
    expected = 1 - np.sqrt(p * q) - np.sqrt((1 - p) * (1 - q))
    close(fidelity(torch.from_numpy(p), torch.from_numpy(q)), expected, atol=3e-4)


def test_pairwise_fidelity_compares_within_a_source():
    quality, mos, source = np.array([4.2, 2.0, 3.0, 1.5]), np.array([0.9, 0.1, 0.5, 0.5]), np.array([0, 0, 0, 1])
    losses = []
    for i in range(4):
        for j in range(i + 1, 4):
            if source[i] == source[j]:
                truth = 1.0 if mos[i] > mos[j] else 0.0
                predicted = scipy.stats.norm.cdf((quality[i] - quality[j]) / np.sqrt(2))
                losses.append(1 - np.sqrt(truth * predicted) - np.sqrt((1 - truth) * (1 - predicted)))
    assert len(losses) == 3
    result = pairwise_fidelity(*map(torch.from_numpy, (quality, mos, source)))
    assert result.item() == pytest.approx(np.mean(losses), abs=3e-4)


def test_pairwise_fidelity_of_a_tie_is_zero_only_for_equal_predictions():
    mos, source = torch.tensor([0.5, 0.5]), torch.zeros(2)
    assert pairwise_fidelity(torch.tensor([2.0, 2.0]), mos, source).item() == pytest.approx(0, abs=1e-6)
    assert pairwise_fidelity(torch.tensor([2.0, 4.0]), mos, source).item() > 0.05


def test_pairwise_fidelity_without_pairs_is_zero_and_has_a_gradient():
    quality = torch.tensor([2.0, 3.0], requires_grad=True)
    pairwise_fidelity(quality, torch.tensor([0.1, 0.2]), torch.tensor([0, 1])).backward()
    assert quality.grad.tolist() == [0, 0]


def test_fidelity_losses_have_finite_gradients_at_certainty():
    quality = torch.tensor([1.0, 5.0, 1.0, 5.0], requires_grad=True)
    pairwise_fidelity(quality * 100, torch.tensor([0.9, 0.1, 0.2, 0.3]), torch.zeros(4)).backward()
    assert quality.grad.isfinite().all()


def test_distortion_fidelity_counts_known_types_only():
    probabilities = torch.softmax(random(3, 11), 1)
    result = distortion_fidelity(probabilities, torch.tensor([4, -1, 0]))
    expected = np.mean([1 - math.sqrt(probabilities[0, 4]), 1 - math.sqrt(probabilities[2, 0])])
    assert result.item() == pytest.approx(expected, abs=1e-6)
    assert distortion_fidelity(probabilities, torch.full((3,), -1)).item() == 0


# Windows


@pytest.mark.parametrize("size", [(14, 14), (14, 15), (16, 16), (16, 40), (100, 37)])
def test_windows_lie_inside_and_differ(size):
    corners = window_positions(*size, window=14, count=10)
    assert len(set(corners)) == len(corners) <= 10
    assert all(0 <= y <= size[0] - 14 and 0 <= x <= size[1] - 14 for y, x in corners)
    assert len(corners) == min(10, (size[0] - 13) * (size[1] - 13)) or max(size) < 20


def test_windows_reach_every_edge():
    corners = window_positions(16, 16, window=14, count=30)
    assert set(corners) == {(y, x) for y in range(3) for x in range(3)}


def test_window_noise_depends_on_seed_and_window_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    noise = window_noise(3, (4, 2, 2), samples=3, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(noise[:1], window_noise(3, (4, 2, 2), samples=1, seed=7))
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[:1], window_noise(4, (4, 2, 2), samples=1, seed=7))
    assert not torch.equal(noise[:1], window_noise(3, (4, 2, 2), samples=1, seed=8))
    large = window_noise(0, (100, 20, 20), samples=1, seed=0)
    assert abs(large.mean().item()) < 0.02
    assert large.std().item() == pytest.approx(1, abs=0.02)


# Config


def test_defaults_are_the_papers():
    config = PfdIqaConfig()
    assert (config.encoder_width, config.text_width, config.grid, config.crop_size) == (384, 512, 14, 224)
    assert (config.sampling_steps, config.start_step, config.n_crops, config.panel) == (5, 500, 10, 6)
    assert (config.mask_ratio, config.norm, config.alignment) == (0.15, "batch", "equation")
    assert PfdTeacherConfig().n_crops == 15


def test_a_config_survives_json():
    for config in (PfdIqaConfig(**LITE, encoder_width=12, use_ppa=False, seed=3), PfdTeacherConfig()):
        assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampling_step": 3}, "model: unknown key 'sampling_step'; did you mean 'sampling_steps'"),
        ({"encoder": "vgg16"}, "encoder = 'vgg16' is not known"),
        ({"norm": "layer"}, "model.norm = 'layer': choose one of 'batch', 'group'"),
        ({"encoder_width": 192}, "gives maps of width 384, not 192"),
        ({"grid": 7}, "does not give deit3_small_patch16_224 a grid of 7; give 112"),
        ({"frozen_levels": 3}, "frozen_levels = 3 needs windows of the maps"),
        ({"crop_space": "feature"}, "set crop_space = 'image'"),
        ({"decoder_heads": 5}, "encoder_width = 384 is not divisible by decoder_heads = 5"),
        ({"sampling_steps": 0}, "sampling_steps = 0 is impossible"),
        ({"sampling_steps": "5"}, "sampling_steps = '5': should be of type int"),
        ({"start_step": 1000}, "start_step = 1000 must lie"),
        ({"beta_end": 1.5}, "give 0 < beta_start <= beta_end < 1"),
        ({"mask_ratio": 1}, "mask_ratio = 1.0 is no probability"),
        ({"logit_scale": 0}, "logit_scale = 0.0 is impossible"),
        ({"pixel_std": [0.2, 0.2]}, "should have 3 entries"),
        ({"pixel_std": [0.2, 0.2, 0]}, "do not normalise RGB"),
        ({"pixel_mean": 0.5}, "pixel_mean = 0.5: should be a list"),
        ({"use_pda": 1}, "use_pda = 1: should be of type bool"),
        ({**LITE, "frozen_levels": 6}, "frozen_levels = 6 is impossible"),
    ],
)
def test_impossible_configs_are_refused(values, message):
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        PfdIqaConfig.from_dict(values)
