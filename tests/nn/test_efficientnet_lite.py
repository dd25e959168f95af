"""EfficientNet-Lite0 against timm's `tf_efficientnet_lite0`, and the tool that converts the published weights."""

import pytest
import timm
import torch
from nn_random import images, randomise
from safetensors import safe_open
from safetensors.torch import save_file
from tools import load_tool
from torch import nn

from iqametrics.errors import RecipeError, WeightsError
from iqametrics.nn import efficientnet_lite
from iqametrics.nn.backbones import build_backbone, load_backbone
from iqametrics.nn.efficientnet_lite import STAGES, EfficientNetLite0
from iqametrics.nn.resnet import ResNet50

pytestmark = pytest.mark.slow


def timm_name(name):
    """timm's name of one of our tensors."""
    if name.startswith("stem."):
        return name.replace("stem.0.", "conv_stem.").replace("stem.1.", "bn1.")
    _, stage, block, part, layer, tensor = name.split(".")
    convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
    norms = {"expand": "bn1", "depthwise": "bn2", "project": "bn3"}
    if STAGES[int(stage)].expand == 1:
        convs, norms = {"depthwise": "conv_dw", "project": "conv_pw"}, {"depthwise": "bn1", "project": "bn2"}
    return f"blocks.{stage}.{block}.{(convs if layer == '0' else norms)[part]}.{tensor}"


@pytest.fixture(scope="module")
def oracle():
    """timm's network with every parameter and buffer random, as double; it returns the same five levels."""
    return randomise(timm.create_model("tf_efficientnet_lite0", features_only=True)).double()


@pytest.fixture
def ours(oracle):
    theirs = oracle.state_dict()
    network = EfficientNetLite0().double().eval()
    network.load_state_dict({name: theirs[timm_name(name)] for name in network.state_dict()})
    return network


def close(levels, expected):
    return all(
        a.shape == b.shape and torch.allclose(a / b.std(), b / b.std(), atol=1e-9, rtol=0)
        for a, b in zip(levels, expected, strict=True)
    )


def test_every_tensor_of_timm_is_used(oracle, ours):
    used = {timm_name(name) for name in ours.state_dict()}
    assert used == set(oracle.state_dict())


@pytest.mark.parametrize("size", [(64, 96), (97, 131), (33, 47), (32, 1)])
@torch.no_grad()
def test_levels_equal_timm(ours, oracle, size):
    x = images(2, 3, *size)
    levels = ours(x)
    assert close(levels, oracle(x))
    for level, channels, stride in zip(levels, EfficientNetLite0.channels, EfficientNetLite0.strides, strict=True):
        assert level.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))


def symmetric_padding(network, monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "_same_padding", lambda size, kernel, stride: 2 * ((kernel - 1) // 2))


def other_eps(network, monkeypatch):
    network.stages[0][0].depthwise[1].eps = 1e-5


def no_residual(network, monkeypatch):
    network.stages[2][1].residual = False


def activated_bottleneck(network, monkeypatch):
    network.stages[6][0].project.append(nn.ReLU6())


def relu(network, monkeypatch):
    network.stages[3][0].expand[2] = nn.ReLU()


@pytest.mark.parametrize(
    "mutate",
    [symmetric_padding, other_eps, no_residual, activated_bottleneck, relu],
    ids=lambda function: function.__name__,
)
@torch.no_grad()
def test_a_wrong_network_fails_the_comparison(ours, oracle, mutate, monkeypatch):
    mutate(ours, monkeypatch)
    x = images(1, 3, 64, 64)
    assert not close(ours(x), oracle(x))


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@torch.no_grad()
def test_entering_at_a_level_changes_nothing(ours, level):
    x = images(1, 3, 75, 64)
    lower = ours.to_level(x, end=level)
    assert len(lower) == level
    for a, b in zip([*lower, *ours.from_level(lower[-1], start=level)], ours(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
@pytest.mark.parametrize("frozen", range(6))
def test_gradients_reach_the_levels_above_the_frozen_ones_only(name, frozen):
    backbone = build_backbone(name)
    backbone.freeze(frozen)
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())
    assert not any(norm.training for norm in backbone.train().modules() if isinstance(norm, nn.BatchNorm2d))
    trained = {id(parameter) for parameter in backbone.parameters() if parameter.requires_grad}
    above = backbone if frozen == 0 else backbone.stage_modules(above_level=frozen)
    convolutions = {id(module.weight) for module in above.modules() if isinstance(module, nn.Conv2d)}
    assert trained == convolutions


def test_an_unknown_backbone_is_refused():
    with pytest.raises(RecipeError, match=r"resnet51.*choose one of resnet50, efficientnet_lite0"):
        build_backbone("resnet51")


def test_backbone_files_are_loaded_strictly_and_in_any_float(tmp_path):
    source = randomise(EfficientNetLite0())
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in source.state_dict().items()}
    save_file(tensors, tmp_path / "half.safetensors")
    network = EfficientNetLite0()
    load_backbone(network, tmp_path / "half.safetensors")
    assert network.stem[0].weight.dtype == torch.float32
    assert torch.equal(network.state_dict()["stem.0.weight"], source.state_dict()["stem.0.weight"].half().float())

    del tensors["stem.0.weight"]
    save_file(tensors, tmp_path / "short.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for file, message in (("short", "stem.0.weight"), ("text", "not a readable"), ("none", "no such file")):
        with pytest.raises(WeightsError, match=message):
            load_backbone(network, tmp_path / f"{file}.safetensors")


def test_resnet_files_are_loaded_by_torchvisions_names(tmp_path):
    source = randomise(ResNet50())
    save_file(source.state_dict() | {"fc.weight": torch.ones(1, 1)}, tmp_path / "resnet.safetensors")
    network = ResNet50()
    load_backbone(network, tmp_path / "resnet.safetensors")
    assert torch.equal(network.state_dict()["layer4.2.conv3.weight"], source.state_dict()["layer4.2.conv3.weight"])


@pytest.fixture(scope="module")
def tool():
    return load_tool("weights/convert_efficientnet_lite0.py")


def test_the_converter_gives_each_tensor_its_published_twin(tool, tmp_path, monkeypatch):
    """The published names are a state dict in network order, so ours in order must meet theirs in order."""
    network = randomise(EfficientNetLite0())
    names = tool.name_map()
    assert list(names) == list(network.state_dict())
    published = {names[ours]: tensor for ours, tensor in network.state_dict().items()}
    published |= {"_conv_head.weight": torch.ones(1), "_bn1.weight": torch.ones(1), "_fc.bias": torch.ones(1)}
    torch.save(published, tmp_path / "weights.pth")
    output = tmp_path / "converted.safetensors"
    arguments = ["convert", str(output), "--input", str(tmp_path / "weights.pth"), "--dtype", "float16"]
    monkeypatch.setattr("sys.argv", arguments)
    tool.main()
    loaded = EfficientNetLite0()
    load_backbone(loaded, output)
    for name, tensor in network.state_dict().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(loaded.state_dict()[name], expected)
    with safe_open(output, "pt") as file:
        metadata = file.metadata()
        assert file.get_tensor("stem.0.weight").dtype == torch.float16
    assert metadata["licence"] == "Apache-2.0"
    assert len(metadata["input_sha256"]) == 64
    with pytest.raises(ValueError, match="_surprise"):
        tool.convert(published | {"_surprise": torch.ones(1)})
    with pytest.raises(ValueError, match="float32"):
        tool.stored(torch.tensor([1e6]), torch.float16)


@torch.no_grad()
def test_the_published_weights_compute_in_ours_what_they_compute_in_timm(tool):
    """Both state dicts are in network order, so timm takes the published tensors by their place, not by our names."""
    published = torch.load(tool.published_file(), map_location="cpu", weights_only=True)
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), published.values(), strict=False)))
    ours = EfficientNetLite0().eval()
    ours.load_state_dict(tool.convert(published))
    x = images(1, 3, 97, 64)
    assert close(ours.double()(x), theirs.double()(x))
