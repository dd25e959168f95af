"""The blocks of BPCLIP and the whole head against `bpclip_numpy`, and the damage that the comparison must notice."""

from typing import Any

import bpclip_numpy as oracle
import numpy as np
import pytest
import torch
from nn_random import images, randomise
from torch import nn

from iqametrics.bpclip import model as model_module
from iqametrics.bpclip import pooling as pooling_module
from iqametrics.bpclip.branches import CrossAttentionBlock, SelfAttentionBlock
from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.model import Bpclip, ScoreMlp, TextSimilarity
from iqametrics.bpclip.pooling import GatedLocalPooling, PositionEncoding, window_means
from iqametrics.nn.folding import scoring

CHANNELS = (16, 24, 40, 112, 320)
SMALL: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "frozen_levels": 5,
    "width": 12,
    "heads": 3,
    "gate_max_width": 5,
    "position_size": 6,
    "text_width": 7,
    "n_anchors": 4,
    "score_hidden": 6,
}


def config(mode="nr", **choices):
    return BpclipConfig(mode=mode, **(SMALL | choices))


def arrays(module):
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def pyramid(height, width, *, seed=0, count=2):
    """Five levels of `count` images of height x width pixels."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, c, -(-height // s), -(-width // s), generator=generator, dtype=torch.float64)
        for c, s in zip(CHANNELS, (2, 4, 8, 16, 32), strict=True)
    ]


def network(mode="nr", **choices):
    built = randomise(Bpclip(config(mode, **choices))).double()
    generator = torch.Generator().manual_seed(3)
    means = [torch.randn(c, generator=generator, dtype=torch.float64) for c in CHANNELS]
    built.set_level_statistics(means, [mean.abs() + 0.5 for mean in means])
    return built


@torch.no_grad()
def agrees(built, dist, ref=None):
    ours = built.score_levels(dist, ref).numpy()
    weights = {name: tensor for name, tensor in arrays(built).items() if not name.startswith("backbone.")}
    pick = [[[level[n].numpy() for level in levels] for n in range(len(dist[0]))] for levels in (dist, ref or dist)]
    theirs = [oracle.score(weights, built.config, d, None if ref is None else r) for d, r in zip(*pick, strict=True)]
    return np.allclose(ours, theirs, rtol=0, atol=1e-9 * np.std(theirs) + 1e-12)


@pytest.mark.parametrize("window", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("size", [(16, 32), (17, 5), (3, 1)])
def test_window_means_equal_slices(window, size):
    x = images(1, 3, *size)
    expected = oracle.window_means(x[0].numpy(), window)
    np.testing.assert_allclose(window_means(x, window)[0].numpy(), expected, atol=1e-12)


def test_window_means_always_land_on_the_smallest_grid():
    """ceil(ceil(H / 2^i) / 2^(n - i)) = ceil(H / 2^n) for every size and level."""
    for side in range(1, 140):
        for level in range(1, 6):
            x = torch.zeros(1, 1, -(-side // 2**level), 1)
            assert window_means(x, 2 ** (5 - level)).shape[-2] == -(-side // 32)


@pytest.mark.parametrize("size", [(8, 12), (9, 5)])
@torch.no_grad()
def test_full_reference_pooling_is_equation_1(size):
    block = randomise(GatedLocalPooling(config("fr"), channels=8, level=3)).double()
    weights = {f"p.{name}": array for name, array in arrays(block).items()}
    dist, ref = images(2, 8, *size), images(2, 8, *size).flip(3)
    ours = block(dist, ref)
    for n in range(2):
        expected = oracle.pooling(weights, "p", 4, dist[n].numpy(), ref[n].numpy())
        np.testing.assert_allclose(ours[n].numpy(), expected, atol=1e-10)
    assert not torch.allclose(ours, block(ref, dist))


@pytest.mark.parametrize("gate", ["linear", "gelu"])
@torch.no_grad()
def test_no_reference_pooling_is_equation_2(gate):
    """The oracle applies W_f before the pooling, as printed; ours after it where that is the same."""
    block = randomise(GatedLocalPooling(config(nr_gate=gate), channels=8, level=4)).double()
    weights = {f"p.{name}": array for name, array in arrays(block).items()}
    x = images(1, 8, 7, 4)
    expected = oracle.pooling(weights, "p", 2, x[0].numpy(), gelu_gate=gate == "gelu")
    np.testing.assert_allclose(block(x)[0].numpy(), expected, atol=1e-10)
    block.gelu_after_value = not block.gelu_after_value
    assert not np.allclose(block(x)[0].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize(("channels", "hidden"), [(16, 4), (320, 64), (2048, 64), (2, 1)])
def test_gate_width(channels, hidden):
    block = GatedLocalPooling(BpclipConfig(mode="nr"), channels=channels, level=1)
    assert [module.out_channels for module in block.gate.phi if isinstance(module, nn.Conv2d)] == [hidden, hidden, 1]


@pytest.mark.parametrize("channels", [64, 256, 2048])
def test_the_gates_of_topiq_have_64_channels_at_every_level(channels):
    block = GatedLocalPooling(BpclipConfig(mode="nr", gate_reduction=1), channels=channels, level=1)
    assert block.gate.phi[0].out_channels == 64


def test_without_a_feed_forward_part_the_blocks_have_no_further_weights():
    assert not any("feed_forward" in name for name in Bpclip(config()).state_dict())
    names = Bpclip(config(feed_forward=2)).state_dict()
    assert names["information.blocks.0.feed_forward.mlp.fc1.weight"].shape == (24, 12)
    assert names["weight.blocks.3.feed_forward.mlp.fc2.weight"].shape == (12, 24)


@pytest.mark.parametrize("grid", [(6, 6), (12, 9), (3, 7), (1, 1)])
@torch.no_grad()
def test_position_is_rows_beside_columns(grid):
    encoding = randomise(PositionEncoding(8, 6)).double()
    weights = {f"position.{name}": array for name, array in arrays(encoding).items()}
    np.testing.assert_allclose(encoding(*grid).numpy(), oracle.position(weights, *grid), atol=1e-12)


@torch.no_grad()
def test_cross_attention_is_equation_4():
    block = randomise(CrossAttentionBlock(config())).double()
    weights = {f"b.{name}": array for name, array in arrays(block).items()}
    query, memory = images(2, 5, 12), images(2, 5, 12).flip(1)
    for n in range(2):
        expected = oracle.cross_attention(weights, "b", 3, query[n].numpy(), memory[n].numpy())
        np.testing.assert_allclose(block(query, memory)[n].numpy(), expected, atol=1e-10)


@torch.no_grad()
def test_self_attention_is_equation_5():
    block = randomise(SelfAttentionBlock(config())).double()
    weights = {f"b.{name}": array for name, array in arrays(block).items()}
    tokens = images(1, 5, 12)
    expected = oracle.self_attention(weights, "b", 3, tokens[0].numpy())
    np.testing.assert_allclose(block(tokens)[0].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("kind", ["softmax", "pairs", "cosine", "scaled_cosine"])
@torch.no_grad()
def test_similarity_is_equation_8(kind):
    chosen = config(similarity=kind, logit_scale=3.0)
    block = TextSimilarity(chosen).double()
    weights = {f"similarity.{name}": array for name, array in arrays(block).items()}
    x = images(2, 4, 7)
    for n in range(2):
        expected = [oracle.similarity(weights, chosen, row) for row in x[n].numpy()]
        np.testing.assert_allclose(block(x)[n].numpy(), expected, atol=1e-7)


def test_similarity_by_hand():
    """Anchors at 0, 90 and 180 degrees, a feature at 60: cosines 1/2, sqrt(3)/2, -1/2, whatever the lengths."""
    block = TextSimilarity(config(similarity="cosine", n_anchors=3, text_width=2))
    block.anchors.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.1], [-5.0, 0.0]]))
    feature = torch.tensor([[[3.0, 3.0 * 3**0.5]]])
    torch.testing.assert_close(block(feature)[0, 0], torch.tensor([0.5, 0.75**0.5, -0.5]))


def test_score_by_hand():
    """Eq. 9 with one hidden unit that sums what it gets: gelu(3) = 3 * 0.9986501."""
    mlp = ScoreMlp(config(score_hidden=1))
    with torch.no_grad():
        for parameter, value in ((mlp.hidden.weight, 1.0), (mlp.hidden.bias, 0.0), (mlp.out.weight, 2.0)):
            parameter.fill_(value)
        mlp.out.bias.fill_(0.5)
        score = mlp(torch.full((1, 4, 4), 3 / 16))
    torch.testing.assert_close(score, torch.tensor([2 * 3 * 0.9986501 + 0.5]))


@pytest.mark.parametrize("mode", ["fr", "nr"])
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"propagation": "progressive", "similarity": "scaled_cosine", "similarity_norm": True},
        {"standardise_levels": True, "similarity": "cosine", "nr_gate": "gelu"},
        {"feed_forward": 4, "similarity": "pairs", "gate_reduction": 1},
        {"information_branch": False},
        {"weight_branch": False},
        {"text_anchors": False},
    ],
    ids=str,
)
def test_the_whole_head_equals_the_printed_equations(mode, choices):
    built = network(mode, **choices)
    ref = pyramid(75, 64, seed=1) if mode == "fr" else None
    assert agrees(built, pyramid(75, 64), ref)


def heads(built, monkeypatch):
    built.information.blocks[1].attention.heads = 2


def level_memory(built, monkeypatch):
    """Keys and values from level i in place of i + 1."""
    for block in built.information.blocks:
        plain = block.forward
        block.forward = lambda query, memory, plain=plain: plain(query, query)


def progressive(built, monkeypatch):
    built.information.progressive = True


def no_sigmoid(built, monkeypatch):
    monkeypatch.setattr(model_module.torch, "sigmoid", lambda x: x)


def no_position(built, monkeypatch):
    monkeypatch.setattr(built.position, "forward", lambda height, width: 0)


def adaptive_pooling(built, monkeypatch):
    def adaptive(x, window):
        return nn.functional.adaptive_avg_pool2d(x, tuple(-(-side // window) for side in x.shape[-2:]))

    monkeypatch.setattr(pooling_module, "window_means", adaptive)


def swapped_concatenation(built, monkeypatch):
    """|F_d - F_r| first: eq. 1 in another order."""
    real = torch.cat
    monkeypatch.setattr(pooling_module.torch, "cat", lambda parts, dim=0: real(list(parts)[::-1], dim=dim))


@pytest.mark.parametrize(
    "mutate",
    [heads, level_memory, progressive, no_sigmoid, no_position, adaptive_pooling, swapped_concatenation],
    ids=lambda function: function.__name__,
)
def test_a_wrong_head_fails_the_comparison(mutate, monkeypatch):
    built = network("fr")
    dist, ref = pyramid(75, 64), pyramid(75, 64, seed=1)
    assert agrees(built, dist, ref)
    mutate(built, monkeypatch)
    assert not agrees(built, dist, ref)


def test_scoring_joins_the_value_with_the_reduction():
    block = randomise(GatedLocalPooling(config("nr"), channels=8, level=4)).double().eval()
    features = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        expected = block(features)
        with scoring():
            assert torch.allclose(block(features), expected, rtol=1e-10, atol=1e-12)
            assert block._kept
            block.value.weight.mul_(2)
            changed = block(features)
        assert not torch.allclose(changed, expected)
        assert torch.allclose(changed, block(features), rtol=1e-10, atol=1e-12)
