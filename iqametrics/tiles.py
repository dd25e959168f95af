"""A native view: a large picture tile by tile at full size, where a whole view would shrink its damage away.

Tiles have one size and overlap as little as the picture's size allows; a picture of one tile is the picture. The score
is the mean of the tiles' scores, each weighted by how much there is to see in it: a tile of clear sky or of a
background out of focus says little about the damage of a photograph, and says it badly, since no photograph of training
looks like it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from iqametrics.images.explanation import Explanation

FLOOR = 0.002
"""Added to each weight, so that a picture without any detail has a score too: about what 8 bits round away."""


@dataclass(frozen=True)
class TileScores(Explanation):
    """The scores of the tiles of one picture.

    Attributes:
        scores: (R, C), a row of tiles after the other.
        weights: (R, C), what each counts.
        picture: The picture, (3, H, W) in [0, 1].
    """

    scores: Tensor
    weights: Tensor
    picture: Tensor

    @property
    def score(self) -> Tensor:
        """The picture's score, (): the weighted mean."""
        return (self.scores * self.weights).sum() / self.weights.sum()

    def facts(self) -> dict[str, str]:
        """Return the score, its extremes and where they are, by name."""
        rows, columns = self.scores.shape
        named = {"worst tile": int(self.scores.argmin()), "best tile": int(self.scores.argmax())}
        places = {
            name: f"{self.scores.flatten()[place].item():.4f}, row {place // columns + 1}, column {place % columns + 1}"
            for name, place in named.items()
        }
        return {"score": f"{self.score.item():.4f}", "tiles": f"{rows} rows of {columns}", **places}

    def maps(self) -> dict[str, Tensor]:
        """Return the tiles' scores and weights as maps over the picture; where tiles overlap, each has its half."""
        return {"score of each tile": self.scores, "weight of each tile": self.weights}


def starts(length: int, tile: int) -> list[int]:
    """Return where tiles begin along a side: the fewest that cover it, evenly spread.

    Examples:
        >>> starts(512, 512), starts(300, 512), starts(1100, 512)
        ([0], [0], [0, 294, 588])
    """
    count = max(1, math.ceil(length / tile))
    return [round(index * (length - tile) / max(1, count - 1)) if count > 1 else 0 for index in range(count)]


def cut(image: Tensor, top: int, left: int, tile: int) -> Tensor:
    """Cut a tile, (3,h,w), out of an image (3,H,W)."""
    return image[:, top : top + tile, left : left + tile]


def weigh(tile: Tensor) -> Tensor:
    """Tell how much there is to see in a tile (3,h,w): the mean step between neighbouring pixels, and a floor.

    No gradient: a loss could otherwise be lowered by hiding the damage in places of little weight.
    """
    gray = tile.detach().mean(0)
    across, down = (gray[:, 1:] - gray[:, :-1]).abs(), (gray[1:] - gray[:-1]).abs()
    steps = [side.mean() for side in (across, down) if side.numel()]
    return torch.stack([*steps, gray.new_zeros(())]).sum() / 2 + FLOOR
