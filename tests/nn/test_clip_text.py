from copy import deepcopy

import open_clip
import pytest
import torch
from nn_random import heads, leave_out_block, plain_gelu, randomise
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import nn

from iqametrics.errors import InputError
from iqametrics.nn.clip_text import CLIP_TEXT_CONFIGS, ClipTextTower, encode_texts
from iqametrics.nn.tokenizer import tokenize
from iqametrics.nn.upstream import load_clip_text

TEXTS = ["a photo with sharp quality.", "", "blurry", "a very long text " * 30, "<end_of_text> twice"]
VISION = CLIPVisionCfg(layers=1, width=64, head_width=64, image_size=32, patch_size=16)


def open_clip_model(*, embed_dim, layers, width=512, heads=8):
    """open_clip's CLIP with QuickGELU, the given text tower and hardly an image tower, random in every weight."""
    text = CLIPTextCfg(width=width, heads=heads, layers=layers)
    return randomise(CLIP(embed_dim, VISION, text, quick_gelu=True))


def from_file(tower, oracle, folder):
    """Ours with the oracle's weights, by way of the file that the oracle writes."""
    path = folder / "open_clip_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in oracle.state_dict().items()}, path)
    load_clip_text(tower, path)
    return tower.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    oracle = open_clip_model(embed_dim=96, layers=3, width=128, heads=4).double()
    ours = ClipTextTower(width=128, layers=3, heads=4, embed_dim=96).double()
    return from_file(ours, oracle, tmp_path_factory.mktemp("clip")), oracle


@pytest.fixture
def pair(models):
    """open_clip's oracle, and a copy of ours that a test may damage."""
    return deepcopy(models[0]), models[1]


@torch.no_grad()
def test_equal_to_open_clip(pair):
    ours, oracle = pair
    expected = oracle.encode_text(open_clip.tokenize(TEXTS))
    torch.testing.assert_close(encode_texts(ours, TEXTS), expected, atol=1e-10, rtol=0)


@torch.no_grad()
def test_features_are_not_of_unit_length(pair):
    ours, oracle = pair
    found = encode_texts(ours, TEXTS)
    expected = oracle.encode_text(open_clip.tokenize(TEXTS), normalize=True)
    assert not torch.allclose(found, expected, atol=1e-2)
    torch.testing.assert_close(nn.functional.normalize(found, dim=1), expected, atol=1e-10, rtol=0)


def no_causal_mask(network):
    for block in network.blocks:
        attend = block.attn.forward
        block.attn.forward = lambda x, causal, attend=attend: attend(x)


def last_position(network):
    network.positional_embedding.data = network.positional_embedding.data.roll(1, dims=0)


MUTANTS = {
    "8 heads": lambda network: heads(network, 8),
    "plain GELU": plain_gelu,
    "block left out": lambda network: leave_out_block(network.blocks),
    "no causal mask": no_causal_mask,
    "positions": last_position,
    "no final norm": lambda network: setattr(network, "ln_final", nn.Identity()),
}


@pytest.mark.parametrize("mutant", MUTANTS)
@torch.no_grad()
def test_a_wrong_tower_fails_the_comparison(pair, mutant):
    ours, oracle = pair
    MUTANTS[mutant](ours)
    expected = oracle.encode_text(open_clip.tokenize(TEXTS))
    assert not torch.allclose(encode_texts(ours, TEXTS), expected, atol=1e-4)


@pytest.mark.parametrize("name", CLIP_TEXT_CONFIGS)
def test_sizes_are_open_clips(name):
    """Their outputs at this size are compared in test_upstream.py."""
    sizes = open_clip.get_model_config(name)
    text = sizes["text_cfg"]
    assert sizes["quick_gelu"]
    assert CLIP_TEXT_CONFIGS[name] == {
        "width": text["width"],
        "layers": text["layers"],
        "heads": text["heads"],
        "embed_dim": sizes["embed_dim"],
    }
    ours = ClipTextTower(**{**CLIP_TEXT_CONFIGS[name], "layers": 0})
    assert ours.context_length == text["context_length"]
    assert ours.token_embedding.num_embeddings == text["vocab_size"]


@torch.no_grad()
def test_a_text_does_not_depend_on_the_others(pair):
    ours, _ = pair
    together = encode_texts(ours, TEXTS)
    for index, text in enumerate(TEXTS):
        torch.testing.assert_close(encode_texts(ours, [text])[0], together[index], atol=1e-10, rtol=0)


def test_anchors_keep_no_gradient(pair):
    ours, _ = pair
    assert not encode_texts(ours, TEXTS).requires_grad
    assert ours(tokenize(TEXTS)).requires_grad


def test_no_text_gives_no_feature(pair):
    assert encode_texts(pair[0], []).shape == (0, 96)


def test_too_many_tokens_are_refused(pair):
    with pytest.raises(InputError, match="80 tokens do not fit the text tower's 77 positions"):
        pair[0](tokenize("a", context_length=80))
