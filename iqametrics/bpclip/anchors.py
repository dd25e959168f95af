"""The 40 text anchors: twenty antonym pairs in six dimensions of quality, and their features.

The paper names 40 adjectives in six dimensions but lists them in a figure only; `prompts.json` is this project's list.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from torch import Tensor

TENSOR_NAME = "anchors"


@dataclass(frozen=True)
class Adjective:
    """An adjective on quality, with its prompt.

    Attributes:
        word: The adjective.
        dimension: Dimension of quality: overall, sharpness, noise, lightness, contrast or color.
        positive: Whether it stands for high quality.
        prompt: The sentence that a text encoder reads.
    """

    word: str
    dimension: str
    positive: bool
    prompt: str


def read_adjectives() -> tuple[Adjective, ...]:
    """Return the 40 adjectives of `prompts.json`, pair after pair, the positive word of a pair first.

    Example:
        >>> [adjective.word for adjective in read_adjectives()[:2]]
        ['excellent', 'terrible']
    """
    table = json.loads(files("iqametrics.bpclip").joinpath("prompts.json").read_text(encoding="utf-8"))
    return tuple(
        Adjective(word, dimension, positive, table["template"].format(adjective=word))
        for dimension, pairs in table["dimensions"].items()
        for pair in pairs
        for word, positive in zip(pair, (True, False), strict=True)
    )


def make_anchors(encode: Callable[[Sequence[str]], Tensor]) -> Tensor:
    """Encode the prompts of all adjectives.

    Args:
        encode: Frozen text encoder from K texts to features (K, C_t).

    Returns:
        Anchors Y, (K, C_t), as the encoder gives them: the model takes cosines, so their length does not matter.
    """
    return encode([adjective.prompt for adjective in read_adjectives()])


def load_anchors(path: str | Path, count: int, width: int) -> Tensor:
    """Read the anchors, or encode the prompts with the text tower of a CLIP model.

    Args:
        path: A safetensors file with a tensor "anchors" (K, C_t), or open_clip's file of a CLIP model.
        count: Number K of anchors that the model has.
        width: Width C_t of its text space.

    Raises:
        WeightsError: If the file cannot be read, holds neither, or holds anchors of another shape.
    """
    # Imported here: it brings CLIP's tokenizer, which scoring can do without.
    from iqametrics.nn.text_features import read_text_features

    prompts = [adjective.prompt for adjective in read_adjectives()]
    return read_text_features(path, {TENSOR_NAME: (count, width)}, {TENSOR_NAME: prompts})[TENSOR_NAME]
