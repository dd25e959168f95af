"""The convolutional backbones that give five levels at strides 2 to 32, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from iqametrics.errors import RecipeError, WeightsError
from iqametrics.nn.efficientnet_lite import EfficientNetLite0
from iqametrics.nn.levels import LEVELS
from iqametrics.nn.norm import freeze_batch_norm
from iqametrics.nn.resnet import ResNet50

_SMALLEST_DEVIATION = 1e-6

BACKBONES: MappingProxyType[str, Callable[[], ResNet50 | EfficientNetLite0]] = MappingProxyType(
    {"resnet50": ResNet50, "efficientnet_lite0": EfficientNetLite0}
)


def build_backbone(name: str) -> ResNet50 | EfficientNetLite0:
    """Build a backbone with fresh weights.

    Args:
        name: "resnet50" or "efficientnet_lite0".

    Raises:
        RecipeError: if the name is not known.
    """
    if name not in BACKBONES:
        raise RecipeError(f"backbone = {name!r} is not known; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]()


def load_backbone(backbone: ResNet50 | EfficientNetLite0, path: str | Path) -> None:
    """Fill a backbone from a safetensors file of its tensors, in any floating type.

    For ResNet-50 that is torchvision's file too: the names are the same, and its classifier is left out.

    Raises:
        WeightsError: if the file cannot be read or its tensors do not fit.
    """
    if isinstance(backbone, ResNet50):
        # Imported here: the readers of foreign files bring CLIP's tokenizer, which scoring can do without.
        from iqametrics.nn.upstream import load_resnet50

        load_resnet50(backbone, path)
        return
    try:
        backbone.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: is not a readable safetensors file ({error}); give another path") from error
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise WeightsError(f"{path}: does not fit the backbone ({problem}); convert the weights again") from error


def freeze_levels(backbone: ResNet50 | EfficientNetLite0, frozen_levels: int) -> None:
    """Hold the parameters of levels 1..frozen_levels, and every BatchNorm, statistics and affine parameters both.

    Args:
        backbone: changed in place; what is not held asks for gradients.
        frozen_levels: 0 (only the BatchNorms are held) to 5 (everything is).
    """
    backbone.requires_grad_(frozen_levels == 0)
    if 0 < frozen_levels < LEVELS:
        backbone.stage_modules(above_level=frozen_levels).requires_grad_(True)
    freeze_batch_norm(backbone)


def divisors(deviations: Tensor) -> Tensor:
    """Give what to divide channels of these standard deviations by: 1 where a channel never varies (under 1e-6)."""
    return torch.where(deviations < _SMALLEST_DEVIATION, torch.ones_like(deviations), deviations)


class LevelStandardiser(nn.Module):
    """Bring each channel of each level to mean 0 and standard deviation 1, by statistics of the training data.

    The statistics are set once and stored with the weights: they do not depend on the batch.

    Args:
        channels: channels C_i of each level.
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
