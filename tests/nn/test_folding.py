"""Folded convolutions: the same levels while scores are computed, and nothing that outlives a change of the weights."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from iqametrics import create_metric
from iqametrics.nn.backbone import Backbone
from iqametrics.nn.efficientnet_lite import EfficientNetLite0
from iqametrics.nn.folding import FoldingModule, channels_last, is_scoring, scoring
from iqametrics.nn.resnet import Bottleneck, ResNet50

# Even and odd sides: each has its own padding.
SIZES = [(64, 96), (65, 97), (64, 97), (33, 64)]


def drawn(backbone: Backbone) -> Backbone:
    """Draw statistics and affine parameters, at which folding is not the identity."""
    generator = torch.Generator().manual_seed(1)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor in (module.running_mean, module.bias):
                tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
            for tensor in (module.running_var, module.weight):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return backbone.eval()


def scored(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    with torch.no_grad(), scoring():
        return backbone(image)


@pytest.mark.parametrize("kind", [ResNet50, EfficientNetLite0])
@pytest.mark.parametrize("size", SIZES)
def test_levels_are_the_same_and_by_folded_kernels(kind: type[Backbone], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    backbone = drawn(kind()).double()
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = backbone(image)
    levels = scored(backbone, image)
    assert all(torch.allclose(*pair, rtol=1e-9, atol=1e-9) for pair in zip(levels, expected, strict=True))
    assert all(module._kept for module in backbone.modules() if isinstance(module, FoldingModule))


def test_a_map_that_a_caller_holds_is_not_overwritten() -> None:
    block = Bottleneck(8, 2).eval()
    x = torch.randn(1, 8, 5, 5)
    before = x.clone()
    scored(block, x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("change", ["weight", "statistics", "load", "dtype", "replaced"])
def test_a_change_of_the_weights_is_seen(change: str) -> None:
    block = Bottleneck(8, 2).eval()
    x = torch.randn(1, 8, 5, 5)
    scored(block, x)
    with torch.no_grad():
        if change == "weight":
            block.conv2.weight.mul_(2)
        elif change == "statistics":
            block.bn3.running_mean.add_(1)
        elif change == "load":
            block.load_state_dict({name: tensor * 2 for name, tensor in block.state_dict().items()})
        elif change == "dtype":
            block.to(torch.bfloat16).to(torch.float32)
        else:
            block.conv1.weight = nn.Parameter(torch.randn_like(block.conv1.weight))
    assert torch.allclose(torch.as_tensor(scored(block, x)), block(x), atol=1e-5)


def test_what_was_folded_is_in_no_state_dict_copy_or_pickle() -> None:
    block = Bottleneck(8, 2).eval()
    names = list(block.state_dict())
    size = len(pickle.dumps(block))
    scored(block, torch.randn(1, 8, 5, 5))
    assert block._kept
    assert list(block.state_dict()) == names
    assert len(pickle.dumps(block)) == size
    assert not copy.deepcopy(block)._kept


def test_training_and_gradients_take_the_other_way() -> None:
    block = Bottleneck(8, 2).eval()
    x = torch.randn(1, 8, 5, 5)
    with torch.no_grad():
        block(x)
    with scoring():
        assert not is_scoring()
        block(x).sum().backward()
        with torch.no_grad():
            assert is_scoring()
            block.train()(x)
    assert not block._kept
    assert block.conv1.weight.grad is not None


def test_only_a_cpu_gets_another_layout() -> None:
    x = torch.randn(1, 8, 5, 5)
    assert channels_last(x) is x
    with torch.no_grad(), scoring():
        assert channels_last(x).is_contiguous(memory_format=torch.channels_last)
        assert channels_last(x.to("meta")).is_contiguous()


@pytest.mark.parametrize("name", ["bpclip-nr.lite", "bpclip-fr.lite", "pfd-iqa.lite"])
def test_scores_are_those_of_the_model_by_itself(name: str) -> None:
    metric = create_metric(name)
    images = torch.rand(2, 3, 224, 225, generator=torch.Generator().manual_seed(0))
    pair = images.split(1)[: 2 if metric.mode == "fr" else 1]
    kept = [module for module in metric.model.backbone.modules() if isinstance(module, FoldingModule)]
    by_itself = metric.model(*(metric.sizing.apply(image) for image in pair))
    assert not any(module._kept for module in kept)
    assert torch.allclose(metric(*pair), by_itself, rtol=0, atol=1e-5)
    assert all(module._kept for module in kept)
