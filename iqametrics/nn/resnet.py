"""ResNet-50 as a pyramid of five feature levels.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the stride on the 3x3 convolution
of a bottleneck ("V1.5"), as torchvision has it. Parameter names are torchvision's, without the classifier `fc`.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.nn.backbone import Backbone
from iqametrics.nn.folding import FoldingModule, channels_last, is_scoring
from iqametrics.nn.levels import LEVELS


class Bottleneck(FoldingModule):
    """Residual block: 1x1 down to `width`, 3x3 (with the stride), 1x1 up to 4 `width`, each with BatchNorm.

    Args:
        in_channels: Channels of the input.
        width: Channels inside the block; the output has four times as many.
        stride: Stride of the 3x3 convolution and of the shortcut.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 4 width, ceil(H / stride), ceil(W / stride))."""
        if is_scoring() and not self.bn1.training:
            return self._scored(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))

    def _scored(self, x: Tensor) -> Tensor:
        """Do the same by folded convolutions, each map overwritten by what follows it."""
        out = _convolve(self, "1", self.conv1, self.bn1, x).relu_()
        out = _convolve(self, "2", self.conv2, self.bn2, out).relu_()
        out = _convolve(self, "3", self.conv3, self.bn3, out)
        if isinstance(self.downsample, nn.Sequential):
            conv, norm = self.downsample
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            x = _convolve(self, "downsample", conv, norm, x)
        return out.add_(x).relu_()


def _convolve(module: FoldingModule, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    weight, bias = module.folded(name, conv, norm)
    assert isinstance(conv.padding, tuple)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


class ResNet50(FoldingModule, Backbone):
    """ResNet-50 without its classifier; gives the maps of all five strides.

    Level i (1..5) has `channels[i - 1]` channels and size ceil(H / 2^i) x ceil(W / 2^i): the stem after its ReLU and
    before the max-pool, then `layer1` .. `layer4`. Call `freeze_batch_norm` to freeze the BatchNorms while the rest is
    fine-tuned. Input is RGB, normalised as the weights want it (ImageNet mean and standard deviation).
    """

    channels = (64, 256, 512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, blocks=3, stride=1)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=6, stride=2)
        self.layer4 = _stage(1024, 512, blocks=3, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def to_level(self, x: Tensor, *, end: int) -> list[Tensor]:
        """Compute levels 1..end of normalised images (N, 3, H, W)."""
        if is_scoring() and not self.bn1.training:
            stem = _convolve(self, "1", self.conv1, self.bn1, channels_last(x)).relu_()
        else:
            stem = self.relu(self.bn1(self.conv1(x)))
        return [stem, *self._run(stem, start=1, end=end)]

    def from_level(self, level: Tensor, *, start: int) -> list[Tensor]:
        """Compute levels start+1..5 from the map of level `start` (1..5)."""
        return self._run(level, start=start, end=LEVELS)

    def stage_modules(self, *, above_level: int) -> nn.ModuleList:
        """Return the parts that compute the levels above `above_level`; the stem is not among them, so 0 equals 1."""
        return nn.ModuleList(self._stages()[max(above_level - 1, 0) :])

    def published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the tensors of torchvision's file, whose names are ours; the classifier `fc` is left out."""
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}

    def _stages(self) -> tuple[nn.Module, ...]:
        """Return the parts that compute levels 2..5."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def _run(self, level: Tensor, *, start: int, end: int) -> list[Tensor]:
        levels = []
        for number in range(start + 1, end + 1):
            if number == 2:  # the max-pool opens level 2
                level = self.maxpool(level)
            level = self._stages()[number - 2](level)
            levels.append(level)
        return levels


def _stage(in_channels: int, width: int, *, blocks: int, stride: int) -> nn.Sequential:
    """Build one stage: its first block changes channels and stride, the others keep both."""
    rest = [Bottleneck(width * Bottleneck.expansion, width) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(in_channels, width, stride), *rest)
