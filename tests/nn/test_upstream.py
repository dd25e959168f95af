from dataclasses import replace

import open_clip
import pytest
import timm
import torch
import torchvision
from nn_random import images, randomise
from safetensors.torch import load_file, save_file

from iqametrics.errors import WeightsError
from iqametrics.nn.clip_text import CLIP_TEXT_CONFIGS, ClipTextTower, encode_texts
from iqametrics.nn.resnet import ResNet50
from iqametrics.nn.upstream import (
    load_clip_text,
    load_clip_visual,
    load_deit3,
    load_resnet50,
)
from iqametrics.nn.vit import CLIP_VIT_B16, DEIT3_SMALL, VisionTransformer

pytestmark = pytest.mark.slow

SMALL_DEIT = replace(DEIT3_SMALL, depth=2)


def write(model, path):
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def assert_same(found, expected):
    torch.testing.assert_close(found / expected.std(), expected / expected.std(), atol=1e-3, rtol=1e-3)


@pytest.fixture
def weights_file(tmp_path):
    """Where to write weights; taken away after the test, since pytest keeps its folders and CLIP has 600 MB."""
    path = tmp_path / "open_clip_model.safetensors"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def deit(tmp_path_factory):
    """timm's DeiT III with two blocks and its classifier, and the file that timm writes of it."""
    model = randomise(timm.create_model("deit3_small_patch16_224", depth=2))
    path = tmp_path_factory.mktemp("deit") / "model.safetensors"
    timm.models.save_for_hf(model, path.parent, safe_serialization=True)
    return model, path


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@torch.no_grad()
def test_resnet50(library, weights_file):
    build = timm.create_model if library == "timm" else torchvision.models.get_model
    oracle = randomise(build("resnet50"))
    ours = ResNet50().eval()
    load_resnet50(ours, write(oracle, weights_file))
    x = images(1, 3, 64, 64, dtype=torch.float32)
    expected = oracle.forward_features(x) if library == "timm" else None
    if expected is None:
        oracle.avgpool, oracle.fc = torch.nn.Identity(), torch.nn.Identity()
        expected = oracle(x).reshape(1, 2048, 2, 2)
    assert_same(ours(x)[-1], expected)


@torch.no_grad()
def test_resnet50_of_a_file_without_batch_counters(weights_file):
    oracle = randomise(torchvision.models.resnet50())
    weights = {name: t for name, t in oracle.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(weights, weights_file)
    ours = ResNet50()
    load_resnet50(ours, weights_file)
    assert torch.equal(ours.state_dict()["layer4.2.bn3.running_var"], oracle.state_dict()["layer4.2.bn3.running_var"])


@torch.no_grad()
def test_deit3(deit):
    oracle, path = deit
    ours = VisionTransformer(SMALL_DEIT).eval()
    load_deit3(ours, path)
    x = images(1, 3, 224, 224, dtype=torch.float32)
    assert_same(ours(x)[0], oracle.forward_features(x)[:, 0])


@torch.no_grad()
def test_a_half_precision_file_fills_a_float32_module(deit, tmp_path):
    oracle, path = deit
    half = changed(path, tmp_path, lambda weights: weights.update({n: t.half() for n, t in weights.items()}))
    ours = VisionTransformer(SMALL_DEIT)
    load_deit3(ours, half)
    assert ours.pos_embed.dtype == torch.float32
    assert torch.equal(ours.pos_embed, oracle.pos_embed.half().float())


@torch.no_grad()
def test_clip_vit_b16_both_towers_at_full_size(weights_file):
    oracle = randomise(open_clip.create_model("ViT-B-16-quickgelu"))
    oracle.visual.output_tokens = True
    path = write(oracle, weights_file)
    image_tower = VisionTransformer(CLIP_VIT_B16).eval()
    load_clip_visual(image_tower, path)
    x = images(1, 3, 224, 224, dtype=torch.float32)
    class_token, patches = image_tower(x)
    pooled, tokens = oracle.visual(x)
    assert_same(class_token, pooled)
    assert_same(patches.flatten(2).mT, tokens @ oracle.visual.proj)
    text_tower = ClipTextTower(**CLIP_TEXT_CONFIGS["ViT-B-16-quickgelu"])
    load_clip_text(text_tower, path)
    texts = ["a photo with noise artifacts.", "bad"]
    assert_same(encode_texts(text_tower, texts), oracle.encode_text(open_clip.tokenize(texts)))


@torch.no_grad()
def test_clip_rn50_text_tower_at_full_size(weights_file):
    oracle = randomise(open_clip.create_model("RN50-quickgelu"))
    path = write(oracle, weights_file)
    text_tower = ClipTextTower(**CLIP_TEXT_CONFIGS["RN50-quickgelu"])
    load_clip_text(text_tower, path)
    texts = ["a photo with noisy quality.", "bad"]
    assert_same(encode_texts(text_tower, texts), oracle.encode_text(open_clip.tokenize(texts)))


def changed(path, folder, change):
    """A copy of a file with its tensors changed."""
    weights = load_file(path)
    change(weights)
    save_file(weights, folder / "changed.safetensors")
    return folder / "changed.safetensors"


def test_a_missing_tensor_is_named(deit, tmp_path):
    path = changed(deit[1], tmp_path, lambda weights: weights.pop("blocks.1.ls2.gamma"))
    with pytest.raises(WeightsError, match=r"changed.safetensors: .*VisionTransformer \(missing: blocks.1.ls2.gamma\)"):
        load_deit3(VisionTransformer(SMALL_DEIT), path)


def test_a_surplus_tensor_is_named(deit, tmp_path):
    path = changed(deit[1], tmp_path, lambda weights: weights.update({"head_dist.bias": torch.zeros(1)}))
    with pytest.raises(WeightsError, match=r"\(surplus: head_dist.bias\)"):
        load_deit3(VisionTransformer(SMALL_DEIT), path)


def test_a_wrong_shape_is_named(deit):
    with pytest.raises(WeightsError, match=r"wrong shape: pos_embed is \(1, 196, 384\), not \(1, 4, 384\)"):
        load_deit3(VisionTransformer(replace(SMALL_DEIT, image_size=32)), deit[1])


def test_a_refused_file_leaves_the_module_alone(deit, tmp_path):
    path = changed(deit[1], tmp_path, lambda weights: weights.pop("norm.weight"))
    ours = VisionTransformer(SMALL_DEIT)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(WeightsError):
        load_deit3(ours, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_another_depth_is_refused_with_a_short_list(deit):
    with pytest.raises(WeightsError, match=r"missing: blocks.2.attn.proj.bias, .* and 23 more") as caught:
        load_deit3(VisionTransformer(replace(SMALL_DEIT, depth=4)), deit[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("load", "build"),
    [
        (load_resnet50, ResNet50),
        (load_clip_visual, lambda: VisionTransformer(replace(CLIP_VIT_B16, depth=1))),
        (load_clip_text, lambda: ClipTextTower(width=64, layers=1, heads=1, embed_dim=8, vocab_size=10)),
    ],
)
def test_the_file_of_another_model_is_refused(deit, load, build):
    with pytest.raises(WeightsError, match=r"does not fit \w+ \(missing: .*; surplus: blocks\."):
        load(build(), deit[1])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere.safetensors: no such file; give the path"):
        load_resnet50(ResNet50(), tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"no safetensors file at all", b"\x80\x02}q\x00."])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"bad.safetensors: is not a readable safetensors file"):
        load_resnet50(ResNet50(), path)
