"""Features of prompts, read from a file or computed by the text tower of a CLIP file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from iqametrics.errors import WeightsError
from iqametrics.nn.clip_text import ClipTextTower, encode_texts
from iqametrics.nn.upstream import load_clip_text

_HEAD_WIDTH = 64
_BLOCK = "transformer.resblocks."
_TOKENS, _POSITIONS, _PROJECTION = "token_embedding.weight", "positional_embedding", "text_projection"


def read_text_features(
    path: str | Path, shapes: Mapping[str, tuple[int, int]], prompts: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """Read the features of prompts, or encode the prompts with a text tower.

    Args:
        path: A safetensors file with a tensor for each list of prompts, as weights/make_anchors.py writes it, or
            open_clip's file of one of OpenAI's CLIP models, whose text tower then encodes the prompts. Which of the
            two it is shows in its tensors.
        shapes: Shape (K, C_t) that the model expects, by the name of the tensor.
        prompts: K sentences by the name of the tensor.

    Returns:
        Features (K, C_t) in float32 by name, as the encoder gives them: not of unit length.

    Raises:
        WeightsError: If the file cannot be read, holds neither, or holds features of another shape.
    """
    with _opened(path) as file:
        features = {name: file.get_tensor(name).float() for name in shapes if name in file.keys()}  # noqa: SIM118
        is_clip = not features and _holds_text_tower(file)
    if is_clip:
        tower = load_text_tower(path)
        features = {name: encode_texts(tower, list(texts)).float() for name, texts in prompts.items()}
    for name, shape in shapes.items():
        found = tuple(features[name].shape) if name in features else "missing"
        if found != shape:
            remedy = (
                "give CLIP RN50 for text_width = 1024, ViT-B/16 for 512"
                if is_clip
                else "give the file that weights/make_anchors.py writes, or open_clip's file of a CLIP model, and set "
                "text_width to what it holds"
            )
            raise WeightsError(f"{path}: {name} should have shape {shape} but is {found}; {remedy}")
    return features


def load_text_tower(path: str | Path) -> ClipTextTower:
    """Load the text tower from open_clip's file of one of OpenAI's CLIP models.

    Its sizes are read from the tensors; a head is 64 wide, as in all of OpenAI's text towers.

    Raises:
        WeightsError: If the file cannot be read or holds no text tower.
    """
    with _opened(path) as file:
        if not _holds_text_tower(file):
            raise WeightsError(f"{path}: holds no text tower; give open_clip's file of a CLIP model")
        blocks = {name.removeprefix(_BLOCK).partition(".")[0] for name in file.keys() if name.startswith(_BLOCK)}  # noqa: SIM118
        tokens, positions, projection = (
            tuple(file.get_slice(name).get_shape()) for name in (_TOKENS, _POSITIONS, _PROJECTION)
        )
    tower = ClipTextTower(
        width=projection[0],
        layers=len(blocks),
        heads=max(projection[0] // _HEAD_WIDTH, 1),
        embed_dim=projection[1],
        vocab_size=tokens[0],
        context_length=positions[0],
    )
    load_clip_text(tower, path)
    return tower.eval()


def _holds_text_tower(file: Any) -> bool:
    return {_TOKENS, _POSITIONS, _PROJECTION} <= set(file.keys())


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: is not a readable safetensors file ({error}); give another path") from error
