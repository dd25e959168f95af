"""A loss that makes adjectives true of pictures whose damage is known; no part of the paper.

How much a picture is said to be "blurry" is how much nearer it is to that anchor than to "sharp", its antonym; nothing
in eq. 10 grounds this in blur. This loss has each adjective said more of pictures with its damage than of others.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from iqametrics.bpclip.anchors import read_adjectives
from iqametrics.words import UNKNOWN, WORDS


def said(descriptors: Tensor) -> Tensor:
    """Compute how much the second adjective of each antonym pair is said of pictures.

    Args:
        descriptors: Similarities to the anchors, (N, n - 1, K), antonyms side by side.

    Returns:
        (N, K / 2): the similarity to the second word less that to the first, the mean over the levels.
    """
    mean = descriptors.mean(dim=1)
    return mean[:, 1::2] - mean[:, 0::2]


def pairs_of(words: Sequence[str]) -> dict[str, int]:
    """Return the antonym pair that each word is the second one of; words that are no adjectives are left out."""
    seconds = [adjective.word for adjective in read_adjectives()][1::2]
    return {word: seconds.index(word) for word in words if word in seconds}


def word_loss(numbers: Tensor, words: Tensor) -> Tensor:
    """Compute the mean of log(1 + exp(g_j - g_i)) over words and pairs in which the word is true of i and not of j.

    The share of pairs with g_i > g_j is the area under the word's ROC curve; this is its smooth bound.

    Args:
        numbers: `said` of N pictures, (N, 20), antonyms as in `read_adjectives`.
        words: (N,) int64: index into `iqametrics.words.WORDS` of the word that is true, `iqametrics.words.NONE` of a
            picture without damage. `UNKNOWN` leaves a picture out.

    Returns:
        A scalar, 0 where there is no pair.
    """
    total = count = numbers.sum() * 0
    for word, pair in pairs_of(WORDS).items():
        true = words == WORDS.index(word)
        pairs = true[:, None] & (~true & (words != UNKNOWN))[None, :]
        gaps = numbers[:, None, pair] - numbers[None, :, pair]
        total = total + (F.softplus(-gaps) * pairs).sum()
        count = count + pairs.sum()
    return total / count.clamp(min=1)
