"""Upstream safetensors files to ours, with a proof that nothing but names changed.

Ours is the format of a base file: a safetensors file whose tensors have the names of our module, all of them and no
others. The same code loads the upstream file and the converted one into our module. Only safetensors files are read.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from iqametrics.common.files import open_atomic
from iqametrics.errors import WeightsError
from iqametrics.nn.clip_text import CLIP_TEXT_CONFIGS, ClipTextTower
from iqametrics.nn.resnet import ResNet50
from iqametrics.nn.upstream import load_clip_text, load_clip_visual, load_deit3, load_resnet50
from iqametrics.nn.vit import CLIP_VIT_B16, DEIT3_SMALL, VisionTransformer
from iqametrics.weights.untrusted import read_sizes

# Two libraries add in different orders; relative to the output's deviation, float32 leaves this much.
LIBRARY_TOLERANCE = 1e-3
_TEXT_MODEL = {sizes["embed_dim"]: name for name, sizes in CLIP_TEXT_CONFIGS.items()}


@dataclass(frozen=True)
class Conversion:
    """What was converted and how that was proved.

    Attributes:
        target: The file that was written.
        tensors: Number of its tensors.
        elements: Number of its values.
        library: The library whose forward pass was compared, "timm" or "open_clip"; None where it is not installed.
        difference: Largest absolute difference from that library's output, in units of that output's deviation; None
            without the library.
    """

    target: Path
    tensors: int
    elements: int
    library: str | None
    difference: float | None

    def lines(self) -> list[str]:
        """Say it in lines for a terminal."""
        compared = (
            f"{self.library}'s own forward pass: largest difference {self.difference:.2e} deviations of the output"
            if self.library is not None
            else "not compared with the library's own forward pass, since it is not installed: "
            'pip install "iqametrics[dev]"'
        )
        return [
            f"{self.target}: {self.tensors} tensors, {self.elements} values",
            "our module filled from either file: outputs equal bit for bit",
            compared,
        ]


@dataclass(frozen=True)
class _Kind:
    """How one architecture is built, filled from upstream's file, given input, and computed by its own library."""

    build: Callable[[Mapping[str, Tensor]], nn.Module]
    load: Callable[[Any, Path], None]
    inputs: Callable[[], Tensor]
    library: str
    forward: Callable[[Mapping[str, Tensor], Tensor], Tensor]


def convert(source: str | Path, target: str | Path, kind: str) -> Conversion:
    """Convert an upstream file; the target is written only after a proof on random input.

    Args:
        source: timm's file of a ResNet-50 or DeiT III small, or open_clip's of a CLIP model.
        target: Where to write; an existing file is replaced.
        kind: One of `KINDS`.

    Raises:
        WeightsError: If the source is missing, damaged or of another architecture; the outputs differ; or the target
            cannot be written.
    """
    source, target = Path(source), Path(target)
    if kind not in KINDS:
        raise WeightsError(f"kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
    if source.resolve() == target.resolve():
        raise WeightsError(f"{target}: is the source itself; give another --to")
    read_sizes(source)  # refuses a file that is not safetensors before anything is allocated
    upstream = _read(source)
    recipe = KINDS[kind]
    ours = recipe.build(upstream).eval()
    recipe.load(ours, source)
    state = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in ours.state_dict().items()}
    with open_atomic(target, error=WeightsError) as stream:
        stream.write(to_bytes(state, metadata={"format": "pt"}))
        stream.flush()
        difference = _prove(recipe, upstream, ours, Path(stream.name), source)
    elements = sum(tensor.numel() for tensor in state.values())
    return Conversion(target, len(state), elements, None if difference is None else recipe.library, difference)


@torch.no_grad()
def _prove(
    recipe: _Kind, upstream: Mapping[str, Tensor], ours: nn.Module, converted: Path, source: Path
) -> float | None:
    """Compare the outputs of our module from both files, and those of the library where it is installed."""
    x = recipe.inputs()
    outputs = ours(x)
    again = recipe.build(upstream).eval()
    recipe.load(again, converted)  # the loader of upstream's file loads ours
    if not _flat(outputs).isfinite().all() or not torch.equal(_flat(again(x)), _flat(outputs)):
        raise WeightsError(f"{source}: converted, its outputs are not the same or not finite; nothing was written")
    if find_spec(recipe.library) is None:
        return None
    theirs = recipe.forward(upstream, x).flatten()
    difference = float((_last(outputs).flatten() - theirs).abs().max() / theirs.std())
    if not difference < LIBRARY_TOLERANCE:
        raise WeightsError(
            f"{source}: our outputs differ from {recipe.library}'s by {difference:.2e} deviations; nothing was written"
        )
    return difference


def _flat(outputs: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return outputs.flatten() if isinstance(outputs, Tensor) else torch.cat([output.flatten() for output in outputs])


def _last(outputs: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return the output to compare: the deepest level, the class token, or the text features."""
    if isinstance(outputs, Tensor):
        return outputs
    return outputs[-1] if isinstance(outputs, list) else outputs[0]


def _read(source: Path) -> dict[str, Tensor]:
    try:
        return load_file(source)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{source}: is not a readable safetensors file ({error}); download it again") from error


def _images() -> Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def _tokens() -> Tensor:
    """Random ids of words between start and end, (2, 77), as CLIP's tokenizer lays them out."""
    words = torch.randint(1, 49405, (2, 77), generator=torch.Generator().manual_seed(0))
    words[:, 0] = 49406
    words[0, 9:], words[1, 30:] = 0, 0
    words[0, 9], words[1, 30] = 49407, 49407
    return words


def _text_sizes(upstream: Mapping[str, Tensor]) -> str:
    """Tell by the width of the joint space which CLIP model a file is of."""
    shape = upstream["text_projection"].shape if "text_projection" in upstream else ()
    if len(shape) != 2 or shape[1] not in _TEXT_MODEL:
        raise WeightsError(f"text_projection has the shape {tuple(shape)}; give open_clip's file of RN50 or ViT-B-16")
    return _TEXT_MODEL[shape[1]]


def _build_text(upstream: Mapping[str, Tensor]) -> nn.Module:
    return ClipTextTower(**CLIP_TEXT_CONFIGS[_text_sizes(upstream)])


def _timm_forward(name: str) -> Callable[[Mapping[str, Tensor], Tensor], Tensor]:
    def forward(upstream: Mapping[str, Tensor], x: Tensor) -> Tensor:
        import timm

        model: Any = timm.create_model(name, pretrained=False).eval()
        # The classifier is not compared, and a file may lack it or have one of another size.
        known = {key: tensor for key, tensor in upstream.items() if not key.startswith(("fc.", "head."))}
        model.load_state_dict(known, strict=False)
        features = model.forward_features(x)
        return features[:, 0] if features.ndim == 3 else features

    return forward


def _clip(upstream: Mapping[str, Tensor], name: str) -> Any:
    import open_clip

    logging.disable(logging.WARNING)  # it warns that its weights are random, as they should be here
    try:
        model = open_clip.create_model(name, pretrained=None).eval()
    finally:
        logging.disable(logging.NOTSET)
    model.load_state_dict(dict(upstream), strict=True)
    return model


def _clip_visual_forward(upstream: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return _clip(upstream, "ViT-B-16-quickgelu").visual(x)


def _clip_text_forward(upstream: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    return _clip(upstream, _text_sizes(upstream)).encode_text(tokens)


KINDS: dict[str, _Kind] = {
    "resnet50": _Kind(lambda _: ResNet50(), load_resnet50, _images, "timm", _timm_forward("resnet50")),
    "deit3": _Kind(
        lambda _: VisionTransformer(DEIT3_SMALL),
        load_deit3,
        _images,
        "timm",
        _timm_forward("deit3_small_patch16_224"),
    ),
    "clip-visual": _Kind(
        lambda _: VisionTransformer(CLIP_VIT_B16), load_clip_visual, _images, "open_clip", _clip_visual_forward
    ),
    "clip-text": _Kind(_build_text, load_clip_text, _tokens, "open_clip", _clip_text_forward),
}
"""What can be converted, by name."""
