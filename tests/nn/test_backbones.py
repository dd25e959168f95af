"""Every backbone keeps one contract; networks of timm against timm itself."""

import copy
import importlib.util

import pytest
import timm
import torch
from nn_random import randomise
from safetensors.torch import save_file
from torch import nn
from training_fake import write_dataset

from iqametrics import create_metric
from iqametrics.errors import MissingExtraError, RecipeError, WeightsError
from iqametrics.nn.backbones import BACKBONES, build_backbone, load_backbone
from iqametrics.nn.levels import STRIDES
from iqametrics.pfd_iqa.config import PfdIqaConfig
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.training.run import train

pytestmark = pytest.mark.slow

CHAINS = [*BACKBONES, "timm/mobilenetv3_small_100", "timm/resnet18", "timm/test_efficientnet"]
# Rounds down where it halves, and joins maps: no chain, and padded.
WHOLE = "timm/densenet121"


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def densenet():
    return build_backbone(WHOLE).eval()


@pytest.mark.parametrize("name", CHAINS)
@torch.no_grad()
def test_levels_can_be_entered_and_left(name):
    backbone = randomise(build_backbone(name)).eval()
    x = images(2, 3, 75, 64)
    whole = backbone(x)
    for level, channels, stride in zip(whole, backbone.channels, STRIDES, strict=True):
        assert level.shape == (2, channels, -(-75 // stride), -(-64 // stride))
    for end in range(1, 6):
        lower = backbone.to_level(x, end=end)
        kept = [level.clone() for level in lower]
        upper = backbone.from_level(lower[-1], start=end)
        assert len(lower) == end
        assert all(torch.equal(a, b) for a, b in zip([*lower, *upper], whole, strict=True))
        assert all(map(torch.equal, lower, kept)), "a stage wrote into the level that it was given"


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("frozen", [0, 2, 5])
def test_freezing_holds_the_lower_levels_and_every_batch_norm(name, frozen):
    backbone = build_backbone(name)
    backbone.freeze(frozen)
    backbone.train()
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad] or [nn.Parameter(torch.ones(1))])
    for seed in range(2):
        torch.manual_seed(seed)
        loss = sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64)))
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
    changed = {key for key, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[key])}
    assert bool(changed) == (frozen < 5)
    lower = set(before)
    for part in backbone.stage_modules(above_level=frozen):
        own = {id(tensor) for tensor in part.state_dict(keep_vars=True).values()}
        lower -= {key for key, tensor in backbone.state_dict(keep_vars=True).items() if id(tensor) in own}
    if frozen:
        assert not changed & lower
    assert not any("running" in key or "num_batches" in key for key in changed)


@pytest.mark.parametrize("name", ["resnet50", "timm/test_efficientnet"])
def test_freezing_again_with_other_levels_holds_the_batch_norms_still(name):
    backbone = build_backbone(name)
    for levels in (3, 0):
        backbone.freeze(levels)
    norms = [module for module in backbone.train().modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    assert all(module.weight.requires_grad for module in backbone.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "resnet18", "test_efficientnet"])
@torch.no_grad()
def test_a_network_of_timm_gives_what_timm_gives(name, tmp_path):
    published = randomise(timm.create_model(name, pretrained=False)).eval()
    save_file(published.state_dict(), tmp_path / "published.safetensors")
    backbone = build_backbone(f"timm/{name}")
    load_backbone(backbone, tmp_path / "published.safetensors")
    oracle = timm.create_model(name, pretrained=False, features_only=True).eval()
    oracle.load_state_dict({key: published.state_dict()[key] for key in oracle.state_dict()})
    x = images(1, 3, 70, 96)
    expected = oracle(x)
    assert backbone.channels == tuple(oracle.feature_info.channels())
    # Training mode differs from timm's evaluation mode by the BatchNorms alone, and these are held.
    backbone.freeze(0)
    for network in (backbone.eval(), backbone.train()):
        assert all(torch.equal(a, b) for a, b in zip(network(x), expected, strict=True))
    save_file({"conv_stem.weight": torch.ones(1)}, tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit TimmBackbone \(missing: "):
        load_backbone(backbone, tmp_path / "short.safetensors")


@torch.no_grad()
def test_a_network_that_is_no_chain_is_used_as_a_whole(densenet):
    x = images(1, 3, 75, 60)
    levels = densenet(x)
    padded = nn.functional.pad(x, (0, 4, 0, 21), mode="replicate")
    for level, theirs, stride in zip(levels, densenet.network(padded), STRIDES, strict=True):
        height, width = -(-75 // stride), -(-60 // stride)
        assert torch.equal(level, theirs[..., :height, :width])
        assert level.shape[-2:] == (height, width)
    assert list(densenet.stage_modules(above_level=5)) == []
    with pytest.raises(RecipeError, match=r"timm/densenet121 cannot be entered at a level.*frozen_levels = 0 or 5"):
        copy.deepcopy(densenet).freeze(3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_atto", r"gives levels at strides 4, 8, 16, 32, and none at 2; a backbone gives five"),
        ("test_vit", r"gives levels at strides 16, .* and none at 2, 4, 8, 32"),
        ("inception_v3", r"timm/inception_v3 does not take images of any size"),
        ("vgg11_bn", r"timm/vgg11_bn has a head far larger than its levels"),
        ("resnet19", r"timm has no network 'resnet19'; did you mean 'resnet18'\?"),
        ("resnet18.a1_in1k", r"timm has no network 'resnet18\.a1_in1k'"),
        ("hf-hub:org/name", r"timm has no network 'hf-hub:org/name'"),
    ],
)
def test_a_network_that_cannot_be_a_backbone_is_refused_in_one_line(name, message):
    with pytest.raises(RecipeError, match=message) as caught:
        build_backbone(f"timm/{name}")
    assert "\n" not in str(caught.value)


def test_without_timm_the_extra_is_named(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else find_spec(name))
    with pytest.raises(MissingExtraError, match=r'timm is not installed.*pip install "iqametrics\[timm\]"'):
        build_backbone("timm/resnet18")


@torch.no_grad()
def test_pfd_iqa_stands_on_a_network_of_timm():
    sizes = {"text_width": 8, "encoder_width": 12, "grid": 2, "crop_size": 64, "crop_space": "feature", "n_crops": 2}
    heads = {"denoiser_heads": 2, "decoder_heads": 2, "panel": 2, "sampling_steps": 2, "norm": "group"}
    config = PfdIqaConfig(encoder="timm/test_efficientnet", frozen_levels=3, **sizes, **heads)
    model = PfdIqa(config).eval()
    assert model.project[0].in_channels == sum(model.levels_backbone.channels[-2:])
    assert model(images(2, 3, 70, 96)).shape == (2,)
    with pytest.raises(RecipeError, match=r"encoder = 'resnet18' is not known; choose one of .*, or timm/NAME"):
        PfdIqaConfig(encoder="resnet18", **sizes)


RECIPE = """
[metric]
name = "bpclip-nr"
tag = "timm"
[model]
backbone = "{backbone}"
frozen_levels = {frozen}
width = 16
heads = 2
text_anchors = false
text_width = 8
[data]
csv = "data.csv"
[split]
validation = 0.25
by = "image"
[sizing]
min_side = 64
[train]
epochs = 1
batch_size = 8
crop = 64
device = "cpu"
workers = 1
[cache]
enabled = {cached}
dtype = "float32"
"""


@pytest.mark.parametrize(("name", "frozen"), [("mobilenetv3_small_100", 0), ("resnet18", 3)])
def test_bpclip_is_trained_saved_loaded_and_scores_on_a_network_of_timm(tmp_path, name, frozen):
    write_dataset(tmp_path, count=16)
    text = RECIPE.format(backbone=f"timm/{name}", frozen=frozen, cached=str(bool(frozen)).lower())
    if frozen:
        network = randomise(timm.create_model(name, pretrained=False))
        save_file(network.state_dict(), tmp_path / "network.safetensors")
        text += '[init]\nbackbone = "./network.safetensors"\n'
    (tmp_path / "recipe.toml").write_text(text)
    run = train(tmp_path / "recipe.toml", output=tmp_path / "run")
    metric = create_metric("bpclip-nr", weights=run / "checkpoint.safetensors")
    rows = (run / "predictions.csv").read_text().splitlines()
    columns = rows[0].split(",")
    for row in rows[1:]:
        values = dict(zip(columns, row.split(","), strict=True))
        assert metric(tmp_path / values["image"]).item() == pytest.approx(float(values["score"]), abs=1e-5)
