"""A loss on order for versions of one image, whose places are known though nobody has scored them.

A damaged version is worse than the photograph that it was made of, and the worse the stronger the damage. How a blur
compares with a noise is not known, and no score is made up for any of them.
"""

from collections.abc import Hashable, Iterable

import torch.nn.functional as F
from torch import Tensor

ORIGINAL = -1
"""Kind of the image that the others of its chain were made of."""
UNCHAINED = (-1, ORIGINAL)
"""Row of `chains` of an image that is a version of nothing."""


def order_loss(scores: Tensor, ranks: Tensor, chains: Tensor, *, margin: float) -> Tensor:
    """Compute the mean of max(0, margin * (r_i - r_j) - (p_i - p_j)) over the pairs in which i is known to be better.

    These are pairs of one image's versions with r_i > r_j, of the same kind of damage or of the original with any.

    Args:
        scores: Predictions p, (N,).
        ranks: Places r in [0, 1], higher is better, (N,).
        chains: Rows (N, 2) int64: which image it is a version of, -1 for what stands alone, and the kind of damage,
            `ORIGINAL` for none.
        margin: How far apart the scores of ranks 0 and 1 should be at least.

    Returns:
        A scalar, 0 where every pair is as far apart as it should be or there is no pair.
    """
    image, kind = chains.unbind(dim=1)
    together = (image[:, None] == image[None, :]) & (image[:, None] >= 0)
    comparable = (kind[:, None] == kind[None, :]) | (kind[:, None] == ORIGINAL)
    gap = ranks[:, None] - ranks[None, :]
    pairs = together & comparable & (gap > 0)
    missing = F.relu(margin * gap - (scores[:, None] - scores[None, :]))
    return (missing * pairs).sum() / pairs.sum().clamp(min=1)


def scored_mean(values: Tensor, chains: Tensor) -> Tensor:
    """Average values (N,) over the images that have an opinion score: those that are versions of nothing.

    A sum over nobody is 0 and has a gradient, a mean over nobody has none.
    """
    scored = chains[:, 0] < 0
    return values[scored].sum() / scored.sum().clamp(min=1)


def number_chains(names: Iterable[tuple[Hashable, Hashable | None]]) -> list[tuple[int, int]]:
    """Return the rows of `order_loss`'s `chains` for pairs of an image's name and a kind's, None being the original."""
    images: dict[Hashable, int] = {}
    kinds: dict[Hashable, int] = {}
    return [
        (images.setdefault(image, len(images)), ORIGINAL if kind is None else kinds.setdefault(kind, len(kinds)))
        for image, kind in names
    ]
