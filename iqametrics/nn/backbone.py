"""What a convolutional backbone offers: five levels at strides 2 to 32, entered and left at any, frozen in part."""

from collections.abc import Mapping

from torch import Tensor, nn

from iqametrics.nn.levels import LEVELS, STRIDES
from iqametrics.nn.norm import freeze_batch_norm


class Backbone(nn.Module):
    """Base of the backbones; a subclass sets `channels` and implements `to_level`, `from_level` and `stage_modules`.

    Level i (1 to 5) has `channels[i - 1]` channels and size ceil(H / 2^i) x ceil(W / 2^i), whatever the image's size.
    `backbone(x)` equals `lower + backbone.from_level(lower[-1], start=k)` with `lower = backbone.to_level(x, end=k)`,
    so that the levels of a frozen lower part need to be computed only once.

    Attributes:
        channels: Channels of each level.
        strides: Pixels of the image between neighbours of each level.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = STRIDES

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the five levels.

        Args:
            x: Images (N, 3, H, W), of any height and width from 1 up, normalised as the weights want it.

        Returns:
            Five maps, level i of shape (N, channels[i - 1], ceil(H / 2^i), ceil(W / 2^i)).
        """
        return self.to_level(x, end=LEVELS)

    def to_level(self, x: Tensor, *, end: int) -> list[Tensor]:
        """Compute levels 1..end of normalised images (N, 3, H, W)."""
        raise NotImplementedError

    def from_level(self, level: Tensor, *, start: int) -> list[Tensor]:
        """Compute levels start+1..5 from the map of level `start` (1..5)."""
        raise NotImplementedError

    def stage_modules(self, *, above_level: int) -> nn.ModuleList:
        """Give the parts that compute the levels above `above_level` (0..5); for 0 the stem may be left out."""
        raise NotImplementedError

    def published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the tensors of a published file by the names of this module, without those that no level needs."""
        return dict(tensors)

    def freeze(self, levels: int) -> None:
        """Hold the parameters of levels 1..levels, and every BatchNorm, statistics and affine parameters both.

        Args:
            levels: 0 (only the BatchNorms are held) to 5 (everything is); what is not held asks for gradients.
        """
        self.requires_grad_(levels == 0)
        if 0 < levels < LEVELS:
            self.stage_modules(above_level=levels).requires_grad_(True)
        freeze_batch_norm(self)
