"""The size at which a checkpoint looks at images, and how they are brought to it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from iqametrics.errors import InputError, WeightsError

MAX_ENLARGED_SIDE = 1024
"""Greatest `min_side` and `short_side`: a checkpoint could otherwise ask for gigabytes to look at a thumbnail."""

NATIVE_TILE = 512
"""Side of the tiles of a native view: that of the photographs on which the lite checkpoints were trained."""

_LEAST_TILE = 128
_MAX_SIDE = 2**31
_MAX_ENLARGED_PIXELS = 2**24
_LONGEST_SHOWN = 160

_ROUNDING = 1e-5
"""How far outside [0, 1] the weights of a resize, which add up to 1, can bring a picture that is black or white."""


@dataclass(frozen=True)
class Sizing:
    """The size at which a checkpoint looks at images; part of the checkpoint.

    Attributes:
        min_side: An image whose shorter side has fewer pixels is scaled up to it.
        max_side: An image whose longer side has more pixels is scaled down to it; None for no limit. An image so
            narrow that both cannot hold keeps `max_side`, and its shorter side is stretched to `min_side`.
        short_side: Every image is scaled, up or down, so that its shorter side has this many pixels; None for the
            image's own size. `max_side` still holds.
        tile: Side of the tiles in which an image is looked at, each for itself (see `iqametrics.tiles`); None for the
            whole image at once.
    """

    min_side: int
    max_side: int | None = None
    short_side: int | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        sides = [self.min_side, *(side for side in (self.short_side, self.max_side, self.tile) if side is not None)]
        if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
            raise ValueError(f"sides {sides} are not all whole numbers from 1 up")
        if max(sides) > _MAX_SIDE:
            raise ValueError("a side is larger than any picture's; leave it out for no limit")
        if max(self.min_side, self.short_side or 1) > MAX_ENLARGED_SIDE:
            raise ValueError(
                f"min_side and short_side are {MAX_ENLARGED_SIDE} at most, since small images grow to them"
            )
        if self.tile is not None and (
            self.tile < max(self.min_side, _LEAST_TILE) or (self.max_side, self.short_side) != (None, None)
        ):
            raise ValueError(f"tiles of {self.tile} need {_LEAST_TILE} or more, a smaller min_side and no other side")
        if sides != sorted(sides):
            raise ValueError(
                f"sizing needs min_side <= short_side <= max_side, not {self.min_side}, {self.short_side} and "
                f"{self.max_side}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sizing":
        """Read what `to_dict` wrote.

        Raises:
            WeightsError: If a key is unknown or missing, or the sides make no sense.
        """
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            shown, reason = (str(text)[:_LONGEST_SHOWN] for text in (dict(values), error))
            raise WeightsError(f"sizing {shown} of the checkpoint is wrong ({reason}); get it anew") from error

    def to_dict(self) -> dict[str, int | None]:
        """Return the fields by name, ready for JSON; the last two only where they are set, as in older records."""
        values = asdict(self)
        return {name: side for name, side in values.items() if side is not None or name in ("min_side", "max_side")}

    def native(self, tile: int = NATIVE_TILE) -> "Sizing":
        """Return the sizing that looks at every image at its own size, in tiles."""
        return Sizing(min(self.min_side, tile), tile=tile)

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width at which an image of this height and width is looked at.

        Raises:
            InputError: If the image is so narrow that it would grow beyond all bounds.

        Examples:
            >>> Sizing(64, 1024).fit(3000, 4000), Sizing(64, 1024).fit(32, 48), Sizing(64).fit(600, 800)
            ((768, 1024), (64, 96), (600, 800))
            >>> Sizing(224, short_side=384).fit(768, 1024), Sizing(224, 512, 384).fit(300, 600)
            ((384, 512), (256, 512))
        """
        shorter, longer = sorted((height, width))
        scale = max(1.0, self.min_side / shorter) if self.short_side is None else self.short_side / shorter
        if self.max_side is not None:
            scale = min(scale, self.max_side / longer)
        fitted = (max(self.min_side, round(height * scale)), max(self.min_side, round(width * scale)))
        if fitted[0] * fitted[1] > max(height * width, _MAX_ENLARGED_PIXELS):
            raise InputError(
                f"an image of {width}x{height} is too narrow to be scaled up to a shorter side of "
                f"{self.short_side or self.min_side}; crop it"
            )
        return fitted

    def apply(self, images: Tensor) -> Tensor:
        """Scale images, antialiased and bicubic, where `fit` says so.

        Args:
            images: (N,3,H,W) in [0, 1].

        Returns:
            (N,3,H',W') in [0, 1]; `images` itself where nothing had to be done. Differentiable.
        """
        height, width = images.shape[-2:]
        size = self.fit(height, width)
        if size == (height, width):
            return images
        return _clamp(F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False))


def _clamp(resized: Tensor) -> Tensor:
    """Clamp to [0, 1]; a value that lies on a bound keeps its gradient.

    A black or white area stays exactly (but for rounding) on the bound when it is resized. The clamp has a corner
    there, of which torch takes the flat side, so that an optimiser could never lift a black pixel; the other side is
    the one that leads to pictures. What truly overshoots, beside an edge, is flat for small changes and has no
    gradient.
    """
    if not resized.requires_grad:
        return resized.clamp(0, 1)
    values = resized.detach()
    within = (values >= -_ROUNDING) & (values <= 1 + _ROUNDING)
    # The difference is exactly 0, and carries the gradient.
    return values.clamp(0, 1) + torch.where(within, resized - values, 0)
