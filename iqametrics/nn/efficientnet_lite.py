"""EfficientNet-Lite0: EfficientNet without squeeze-and-excitation and with ReLU6, for small machines.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
in the "Lite" variant that its authors published for mobile devices.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.nn.backbone import Backbone
from iqametrics.nn.folding import FoldingModule, channels_last, is_scoring
from iqametrics.nn.levels import LEVELS
from iqametrics.nn.symbols import is_symbol

BATCH_NORM_EPS = 1e-3


class StageConfig(NamedTuple):
    """A row of equal inverted residual blocks; only the first changes stride and channels."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    StageConfig(blocks=1, kernel=3, stride=1, expand=1, channels=16),
    StageConfig(blocks=2, kernel=3, stride=2, expand=6, channels=24),
    StageConfig(blocks=2, kernel=5, stride=2, expand=6, channels=40),
    StageConfig(blocks=3, kernel=3, stride=2, expand=6, channels=80),
    StageConfig(blocks=3, kernel=5, stride=1, expand=6, channels=112),
    StageConfig(blocks=4, kernel=5, stride=2, expand=6, channels=192),
    StageConfig(blocks=1, kernel=3, stride=1, expand=6, channels=320),
)
STEM_CHANNELS = 32
# The last stage at each stride 2, 4, 8, 16, 32 closes a level.
LEVEL_ENDS = (0, 1, 2, 4, 6)


class SamePadConv2d(nn.Conv2d):
    """Convolution padded so that the output has ceil(input / stride) rows and columns.

    The published weights were trained with this padding, which puts the odd pixel at the bottom and right.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Do the same with the given kernel and bias in place of the layer's own."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1 and (is_symbol(x.shape[-2]) or is_symbol(x.shape[-1])):
            rows, columns = (_symbolic_padding(size, kernel, stride) for size in x.shape[-2:])
            return F.conv2d(F.pad(x, (*columns, *rows)), weight, bias, self.stride, 0, self.dilation, self.groups)
        pad_h = _same_padding(x.shape[-2], kernel, stride)
        pad_w = _same_padding(x.shape[-1], kernel, stride)
        both = (pad_h // 2, pad_w // 2)
        if pad_h % 2 or pad_w % 2:
            x = F.pad(x, (both[1], pad_w - both[1], both[0], pad_h - both[0]))
            both = (0, 0)
        return F.conv2d(x, weight, bias, self.stride, both, self.dilation, self.groups)


def _same_padding(size: int, kernel: int, stride: int) -> int:
    return kernel - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + kernel - size, 0)


def _symbolic_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the rows before and after a side whose size is a symbol, without asking which size it is.

    Together they are kernel - 1 for any size, so that the size of the output stays a short expression. That is up to
    stride - 1 rows more at the end than `_same_padding` has, which no step of the kernel reaches.
    """
    before = (kernel - 1 - (size - 1) % stride) // 2
    return before, kernel - 1 - before


class ConvBN(FoldingModule, nn.Sequential):
    """Convolution, BatchNorm and, unless `activate` is false, ReLU6."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        conv = SamePadConv2d(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)]
        if activate:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__()
        self.extend(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        conv, norm, *activation = self
        assert isinstance(conv, SamePadConv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        if is_scoring() and not norm.training:
            return self._scored(conv, norm, x, activate=bool(activation))
        x = norm(conv(x)) if norm.training else self._folded(conv, norm, x)
        return activation[0](x) if activation else x

    @staticmethod
    def _folded(conv: SamePadConv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """Fold a BatchNorm in evaluation mode into the kernel and bias, which are smaller than the map."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return conv.convolve(x, conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)

    def _scored(self, conv: SamePadConv2d, norm: nn.BatchNorm2d, x: Tensor, *, activate: bool) -> Tensor:
        """Do the same by a kernel that is kept.

        Padding that puts an odd pixel at the bottom or right is padding by one more on both sides and a kernel with a
        row or column of zeros more at its top or left: the padded map, which is large, need not be written.
        """
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        pad_h = _same_padding(x.shape[-2], kernel, stride)
        pad_w = _same_padding(x.shape[-1], kernel, stride)
        odd_h, odd_w = pad_h % 2, pad_w % 2
        weight, bias = self.folded(f"{odd_h}{odd_w}", conv, norm, lambda weight: F.pad(weight, (odd_w, 0, odd_h, 0)))
        padding = (pad_h // 2 + odd_h, pad_w // 2 + odd_w)
        out = F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)
        return F.relu6(out, inplace=True) if activate else out


class InvertedResidual(nn.Module):
    """Inverted residual block: 1x1 expansion, depthwise convolution, and 1x1 projection without activation."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expand = ConvBN(in_channels, hidden) if expand != 1 else nn.Identity()
        self.depthwise = ConvBN(hidden, hidden, kernel=kernel, stride=stride, groups=hidden)
        self.project = ConvBN(hidden, out_channels, activate=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        out = self.project(self.depthwise(self.expand(x)))
        if not self.residual:
            return out
        return out.add_(x) if is_scoring() else x + out


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier, giving five levels at strides 2, 4, 8, 16 and 32.

    The network can be entered and left at a level, so that the levels of a frozen lower part are computed once:
    `model(x)` equals `lower + model.from_level(lower[-1], start=k)` with `lower = model.to_level(x, end=k)`.
    """

    channels = (16, 24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBN(3, STEM_CHANNELS, kernel=3, stride=2)
        stages, width = [], STEM_CHANNELS
        for config in STAGES:
            blocks = []
            for index in range(config.blocks):
                stride = config.stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(width, config.channels, kernel=config.kernel, stride=stride, expand=config.expand)
                )
                width = config.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def to_level(self, x: Tensor, *, end: int) -> list[Tensor]:
        """Compute levels 1..end of images (N, 3, H, W)."""
        return self._run(self.stem(channels_last(x)), first_level=0, last_level=end)

    def from_level(self, level: Tensor, *, start: int) -> list[Tensor]:
        """Compute levels start+1..5 from the map of level `start` (1..5)."""
        return self._run(level, first_level=start, last_level=LEVELS)

    def stage_modules(self, *, above_level: int) -> nn.ModuleList:
        """Return the stages that compute the levels above `above_level` (0 for all but the stem)."""
        first = LEVEL_ENDS[above_level - 1] + 1 if above_level else 0
        return nn.ModuleList(list(self.stages)[first:])

    def _run(self, x: Tensor, *, first_level: int, last_level: int) -> list[Tensor]:
        levels: list[Tensor] = []
        first_stage = LEVEL_ENDS[first_level - 1] + 1 if first_level else 0
        for index in range(first_stage, LEVEL_ENDS[last_level - 1] + 1):
            x = self.stages[index](x)
            if index in LEVEL_ENDS:
                levels.append(x)
        return levels
