"""The convolutional backbones that give five levels at strides 2 to 32, by name."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from iqametrics.nn.efficientnet_lite import EfficientNetLite0


class LevelBackbone(Protocol):
    """A network with five levels, which can be entered and left at a level.

    `channels` and `strides` describe levels 1..5. Level 0 is the normalised image itself.
    """

    channels: Sequence[int]
    strides: Sequence[int]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """All five levels of a normalised image batch (N, 3, H, W)."""

    def to_level(self, x: Tensor, *, end: int) -> list[Tensor]:
        """Levels 1..end of a normalised image batch."""

    def from_level(self, level: Tensor, *, start: int) -> list[Tensor]:
        """Levels start+1..5 from the map of level `start`."""
