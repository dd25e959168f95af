from copy import deepcopy
from dataclasses import replace

import open_clip
import pytest
import timm
import torch
from nn_random import heads, images, leave_out_block, plain_gelu, randomise
from open_clip.transformer import QuickGELU
from open_clip.transformer import VisionTransformer as OpenClipVisionTransformer
from safetensors.torch import save_file
from torch import nn

from iqametrics.errors import InputError
from iqametrics.nn.upstream import load_clip_visual
from iqametrics.nn.vit import CLIP_VIT_B16, DEIT3_SMALL, VisionTransformer

DEPTH = 2
SMALL_CLIP = replace(CLIP_VIT_B16, depth=DEPTH, image_size=96)


def deit_pair(depth, **options):
    """timm's DeiT III small and ours with the same random weights; timm's names are ours."""
    oracle = randomise(timm.create_model("deit3_small_patch16_224", depth=depth, num_classes=0, **options))
    ours = VisionTransformer(replace(DEIT3_SMALL, depth=depth)).eval()
    ours.load_state_dict(oracle.state_dict())
    return ours, oracle


@pytest.fixture(scope="module")
def deit_models():
    ours, oracle = deit_pair(DEPTH)
    return ours.double(), oracle.double()


@pytest.fixture
def deit(deit_models):
    """timm's oracle, and a copy of ours that a test may damage."""
    return deepcopy(deit_models[0]), deit_models[1]


@pytest.fixture(scope="module")
def clip_models(tmp_path_factory):
    """open_clip's image tower of ViT-B/16, smaller in depth and image, and ours, loaded from its file."""
    oracle = OpenClipVisionTransformer(96, 16, 768, DEPTH, 12, 4.0, output_dim=512, act_layer=QuickGELU)
    oracle = randomise(oracle).double()
    oracle.output_tokens = True
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file({f"visual.{name}": tensor.contiguous() for name, tensor in oracle.state_dict().items()}, path)
    ours = VisionTransformer(SMALL_CLIP).double().eval()
    load_clip_visual(ours, path)
    return ours, oracle


@pytest.fixture
def clip(clip_models):
    """open_clip's oracle, and a copy of ours that a test may damage."""
    return deepcopy(clip_models[0]), clip_models[1]


def deit_expected(oracle, x):
    """Class token and map from timm, whose forward_features ends with the norm."""
    tokens = oracle.forward_features(x)
    size = [side // 16 for side in x.shape[-2:]]
    return tokens[:, 0], tokens[:, 1:].mT.unflatten(2, size)


def clip_expected(oracle, x):
    """Class token from open_clip's own forward; patch tokens, which it leaves unprojected, times its matrix."""
    pooled, tokens = oracle(x)
    return pooled, (tokens @ oracle.proj).mT.unflatten(2, (6, 6))


def close(found, expected):
    return all(torch.allclose(a, b, atol=1e-9, rtol=0) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def test_deit3_equals_timm(deit):
    ours, oracle = deit
    x = images(2, 3, 224, 224)
    found = ours(x)
    assert found[0].shape == (2, 384)
    assert found[1].shape == (2, 384, 14, 14)
    assert close(found, deit_expected(oracle, x))


@torch.no_grad()
def test_clip_equals_open_clip(clip):
    ours, oracle = clip
    x = images(2, 3, 96, 96)
    found = ours(x)
    assert found[0].shape == (2, 512)
    assert found[1].shape == (2, 512, 6, 6)
    assert close(found, clip_expected(oracle, x))


@pytest.mark.slow
@torch.no_grad()
def test_full_deit3_equals_timm():
    ours, oracle = deit_pair(12)
    x = images(1, 3, 224, 224, dtype=torch.float32)
    for a, b in zip(ours(x), deit_expected(oracle, x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(160, 288), (224, 448), (16, 16)])
@torch.no_grad()
def test_other_sizes_equal_timm(size):
    ours, oracle = deit_pair(1, dynamic_img_size=True)
    x = images(1, 3, *size, dtype=torch.float32)
    for a, b in zip(ours(x), deit_expected(oracle, x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_other_sizes_leave_the_class_position_alone(clip):
    ours, _ = clip
    assert ours(images(1, 3, 64, 96))[1].shape == (1, 512, 4, 6)
    with_class = ours.pos_embed[0, 1:].mT.reshape(1, 768, 6, 6)
    resampled = nn.functional.interpolate(with_class, (4, 6), mode="bicubic", antialias=True)
    torch.testing.assert_close(ours._patch_positions(4, 6), resampled.flatten(2).mT)


def skip_layer_scale(network):
    for block in network.blocks:
        block.ls1, block.ls2 = nn.Identity(), nn.Identity()


def quick_gelu(network):
    for block in network.blocks:
        block.mlp.act = QuickGELU()


def other_eps(network):
    for block in network.blocks:
        block.norm1.eps = 1e-5


def positions_before_class(network):
    """The class token takes the first position and the patches the others, shifted by one."""
    network.pos_embed.data = network.pos_embed.data.roll(1, dims=1)


DEIT_MUTANTS = {
    "12 heads": lambda network: heads(network, 12),
    "QuickGELU": quick_gelu,
    "block left out": lambda network: leave_out_block(network.blocks),
    "no LayerScale": skip_layer_scale,
    "eps": other_eps,
    "positions": positions_before_class,
}
CLIP_MUTANTS = {
    "8 heads": lambda network: heads(network, 8),
    "plain GELU": plain_gelu,
    "block left out": lambda network: leave_out_block(network.blocks),
    "no norm before": lambda network: setattr(network, "norm_pre", nn.Identity()),
    "positions": positions_before_class,
}


@pytest.mark.parametrize("mutant", DEIT_MUTANTS)
@torch.no_grad()
def test_a_wrong_deit3_fails_the_comparison(deit, mutant):
    ours, oracle = deit
    DEIT_MUTANTS[mutant](ours)
    x = images(1, 3, 224, 224)
    assert not close(ours(x), deit_expected(oracle, x))


@pytest.mark.parametrize("mutant", CLIP_MUTANTS)
@torch.no_grad()
def test_a_wrong_clip_fails_the_comparison(clip, mutant):
    ours, oracle = clip
    CLIP_MUTANTS[mutant](ours)
    x = images(1, 3, 96, 96)
    assert not close(ours(x), clip_expected(oracle, x))


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch():
    network = randomise(VisionTransformer(replace(DEIT3_SMALL, depth=2)))
    x = images(4, 3, 64, 64, dtype=torch.float32)
    for index in range(4):
        for alone, together in zip(network(x[index : index + 1]), network(x), strict=True):
            torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(224, 230), (15, 16), (0, 16)])
def test_a_size_that_is_no_multiple_of_the_patch_is_refused(size):
    network = VisionTransformer(replace(DEIT3_SMALL, depth=1))
    with pytest.raises(InputError, match=rf"{size[0]}x{size[1]} pixels .* multiples of 16"):
        network(torch.zeros(1, 3, *size))


@torch.no_grad()
def test_half_precision_takes_other_sizes():
    network = VisionTransformer(replace(DEIT3_SMALL, depth=1)).bfloat16()
    assert network(torch.zeros(1, 3, 32, 48, dtype=torch.bfloat16))[1].dtype == torch.bfloat16


def test_sizes_are_those_of_the_published_models():
    assert sum(p.numel() for p in VisionTransformer(DEIT3_SMALL).parameters()) == sum(
        p.numel() for p in timm.create_model("deit3_small_patch16_224", num_classes=0).parameters()
    )
    sizes = open_clip.get_model_config("ViT-B-16-quickgelu")
    vision = sizes["vision_cfg"]
    assert (CLIP_VIT_B16.width, CLIP_VIT_B16.depth) == (vision["width"], vision["layers"])
    assert (CLIP_VIT_B16.patch_size, CLIP_VIT_B16.output_dim) == (vision["patch_size"], sizes["embed_dim"])
