import copy
import io

import pytest
import torch
from nn_random import images, randomise
from torch import nn
from torchvision.models import resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from iqametrics.nn.norm import freeze_batch_norm
from iqametrics.nn.resnet import Bottleneck, ResNet50

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def oracle():
    """torchvision's ResNet-50 with every parameter and buffer random, as double."""
    return randomise(resnet50()).double()


@pytest.fixture(scope="module")
def oracle_levels(oracle):
    nodes = {"relu": "1", "layer1": "2", "layer2": "3", "layer3": "4", "layer4": "5"}
    return create_feature_extractor(oracle, nodes)


@pytest.fixture
def ours(oracle):
    weights = {name: tensor for name, tensor in oracle.state_dict().items() if not name.startswith("fc.")}
    network = ResNet50().double().eval()
    network.load_state_dict(weights)
    return network


def close(levels, expected):
    scaled = zip(levels, expected.values(), strict=True)
    return all(torch.allclose(a / b.std(), b / b.std(), atol=1e-9, rtol=0) for a, b in scaled)


@pytest.mark.parametrize("size", [(64, 96), (45, 33), (1, 1)])
@torch.no_grad()
def test_levels_equal_torchvision(ours, oracle_levels, size):
    x = images(2, 3, *size)
    levels = ours(x)
    assert close(levels, oracle_levels(x))
    for level, channels, stride in zip(levels, ResNet50.channels, ResNet50.strides, strict=True):
        assert level.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))


@torch.no_grad()
def test_full_size_in_float32(ours, oracle, oracle_levels):
    x = images(1, 3, 224, 224)
    for level, expected in zip(ours.float()(x.float()), oracle_levels(x).values(), strict=True):
        torch.testing.assert_close(level.double() / expected.std(), expected / expected.std(), atol=1e-4, rtol=1e-4)


def stride_on_first_convolution(network):
    block = network.layer2[0]
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def no_shortcut_norm(network):
    network.layer3[0].downsample[1] = nn.Identity()


def one_block_left_out(network):
    network.layer3[3] = nn.Identity()


def other_eps(network):
    network.layer1[0].bn1.eps = 1e-3


@pytest.mark.parametrize(
    "mutate", [stride_on_first_convolution, no_shortcut_norm, one_block_left_out, other_eps], ids=lambda f: f.__name__
)
@torch.no_grad()
def test_a_wrong_network_fails_the_comparison(ours, oracle_levels, mutate):
    mutate(ours)
    x = images(1, 3, 64, 64)
    assert not close(ours(x), oracle_levels(x))


@pytest.mark.parametrize("level", [1, 2, 4, 5])
@torch.no_grad()
def test_entering_at_a_level_changes_nothing(ours, level):
    x = images(1, 3, 64, 48)
    lower = ours.to_level(x, end=level)
    assert len(lower) == level
    for a, b in zip([*lower, *ours.from_level(lower[-1], start=level)], ours(x), strict=True):
        assert torch.equal(a, b)


def test_stage_modules_are_those_above_the_level():
    network = ResNet50()
    assert list(network.stage_modules(above_level=3)) == [network.layer3, network.layer4]
    assert list(network.stage_modules(above_level=0)) == list(network.stage_modules(above_level=1))
    assert list(network.stage_modules(above_level=5)) == []


def small_network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), Bottleneck(8, 2))


def test_frozen_batch_norm_ignores_training():
    network = randomise(small_network())
    x = images(4, 3, 8, 8, dtype=torch.float32)
    expected, before = network(x), copy.deepcopy(network.state_dict())
    assert freeze_batch_norm(network) is network
    network.train()
    assert network.training
    network(x).square().sum().backward()
    torch.testing.assert_close(network(x), expected)
    assert network.state_dict().keys() == before.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_frozen_batch_norm_asks_for_no_gradient():
    network = freeze_batch_norm(small_network()).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 4
    for norm in norms:
        assert not norm.training
        assert not norm.weight.requires_grad
        assert not norm.bias.requires_grad
    assert network[0].weight.requires_grad


def test_an_unfrozen_batch_norm_does_change():
    network = small_network().train()
    before = network[1].running_mean.clone()
    network(images(4, 3, 8, 8, dtype=torch.float32))
    assert not torch.equal(network[1].running_mean, before)


def test_freezing_keeps_dtype_and_survives_copying_and_saving():
    network = freeze_batch_norm(randomise(small_network()).double())
    twin = copy.deepcopy(network).train()
    assert twin[1].running_mean.dtype == torch.float64
    assert not twin[1].training
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    buffer.seek(0)
    fresh = freeze_batch_norm(small_network().double())
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(fresh[1].running_var, network[1].running_var)


def test_a_single_batch_norm_gives_a_frozen_twin():
    assert not freeze_batch_norm(nn.BatchNorm2d(4)).train().training
