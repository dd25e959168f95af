"""The backbones by name, their published files, and statistics of their levels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from iqametrics.errors import RecipeError
from iqametrics.nn.backbone import Backbone
from iqametrics.nn.efficientnet_lite import EfficientNetLite0
from iqametrics.nn.resnet import ResNet50
from iqametrics.nn.timm_backbone import PREFIX, TimmBackbone

_SMALLEST_DEVIATION = 1e-6

BACKBONES: MappingProxyType[str, Callable[[], Backbone]] = MappingProxyType(
    {"resnet50": ResNet50, "efficientnet_lite0": EfficientNetLite0}
)


def build_backbone(name: str) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: One of `BACKBONES`, or "timm/" and the name of a network of timm that gives five levels.

    Raises:
        RecipeError: If the name is not known, or the network gives other levels.
        MissingExtraError: If timm is asked for and not installed.
    """
    if name.startswith(PREFIX):
        return TimmBackbone(name.removeprefix(PREFIX))
    if name not in BACKBONES:
        raise RecipeError(f"backbone = {name!r} is not known; choose one of {', '.join(BACKBONES)}, or {PREFIX}NAME")
    return BACKBONES[name]()


def load_backbone(backbone: Backbone, path: str | Path) -> None:
    """Fill a backbone from a safetensors file of its tensors, in any floating type.

    That may be the file that torchvision or timm published of the whole network; what no level needs is left out.

    Raises:
        WeightsError: If the file cannot be read or its tensors do not fit.
    """
    # Imported here: the readers of foreign files bring CLIP's tokenizer, which scoring can do without.
    from iqametrics.nn.upstream import fill_module, read_tensors

    fill_module(backbone, backbone.published(read_tensors(path)), path)


def divisors(deviations: Tensor) -> Tensor:
    """Return what to divide channels of these standard deviations by: 1 where a channel never varies (under 1e-6)."""
    return torch.where(deviations < _SMALLEST_DEVIATION, torch.ones_like(deviations), deviations)


class LevelStandardiser(nn.Module):
    """Bring each channel of each level to mean 0 and standard deviation 1, by statistics of the training data.

    The statistics are set once and stored with the weights: they do not depend on the batch.

    Args:
        channels: Channels C_i of each level.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        for number, count in enumerate(channels, start=1):
            self.register_buffer(f"level_mean_{number}", torch.zeros(count))
            self.register_buffer(f"level_std_{number}", torch.ones(count))

    def set_statistics(self, means: Sequence[Tensor], stds: Sequence[Tensor]) -> None:
        """Store the mean and standard deviation of each channel, (C_i,) for each level.

        A channel that never varies is only centred, see `divisors`.
        """
        for number, (mean, std) in enumerate(zip(means, stds, strict=True), start=1):
            self.get_buffer(f"level_mean_{number}").copy_(mean)
            self.get_buffer(f"level_std_{number}").copy_(divisors(std))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Standardise levels (N, C_i, H_i, W_i), giving the same shapes."""
        standardised = []
        for number, level in enumerate(levels, start=1):
            scale = self.get_buffer(f"level_std_{number}").reciprocal()
            shift = -self.get_buffer(f"level_mean_{number}") * scale
            standardised.append(torch.addcmul(shift[:, None, None], level, scale[:, None, None]))
        return standardised
