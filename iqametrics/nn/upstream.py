"""Loaders of weights that other projects publish, from their safetensors files into our modules.

Every loader is strict: it fills each tensor of the module, and a tensor of the file that the module lacks is an error,
unless it belongs to a part that the loader names as left out. An error message gives missing tensors by our names,
and surplus ones by the file's names where ours has none for them.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from iqametrics.errors import WeightsError
from iqametrics.nn.clip_text import ClipTextTower
from iqametrics.nn.resnet import ResNet50
from iqametrics.nn.vit import VisionTransformer

_CLIP_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
_CLIP_SHARED = ("logit_scale",)
_CLIP_IMAGE = ("visual.",)

# open_clip's names of the parts of a block, and ours (timm's).
_CLIP_BLOCK_NAMES = {
    "transformer.resblocks.": "blocks.",
    ".ln_1.": ".norm1.",
    ".attn.in_proj_weight": ".attn.qkv.weight",
    ".attn.in_proj_bias": ".attn.qkv.bias",
    ".attn.out_proj.": ".attn.proj.",
    ".ln_2.": ".norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
_CLIP_IMAGE_NAMES = {
    "visual.": "",
    "conv1.": "patch_embed.proj.",
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "ln_pre.": "norm_pre.",
    "ln_post.": "norm.",
}


def load_resnet50(module: ResNet50, path: str | Path) -> None:
    """Load torchvision's ResNet-50, e.g. the file of `timm/resnet50.tv_in1k`; the classifier `fc` is left out.

    Raises:
        WeightsError: If the file cannot be read or its tensors do not fit.
    """
    fill_module(module, module.published(read_tensors(path)), path)


def load_deit3(module: VisionTransformer, path: str | Path) -> None:
    """Load timm's DeiT III, e.g. `timm/deit3_small_patch16_224.fb_in22k_ft_in1k`; the classifier `head` is left out.

    Raises:
        WeightsError: If the file cannot be read or its tensors do not fit.
    """
    fill_module(module, read_tensors(path, leave_out=("head.",)), path)


def load_clip_visual(module: VisionTransformer, path: str | Path) -> None:
    """Load the image transformer from open_clip's file of a CLIP model; the text tower is left out.

    Raises:
        WeightsError: If the file cannot be read or its tensors do not fit.
    """
    tensors = read_tensors(path, leave_out=(*_CLIP_TEXT, *_CLIP_SHARED))
    ours = {_rename(name, _CLIP_IMAGE_NAMES | _CLIP_BLOCK_NAMES): tensor for name, tensor in tensors.items()}
    # Ours, as timm's, have leading dimensions for the batch (and, for the class token, the position); a file that
    # `iqametrics weights convert` made has them already.
    for name, leading in (("cls_token", (None, None)), ("pos_embed", (None,))):
        if name in ours and ours[name].ndim < 3:
            ours[name] = ours[name][leading]
    fill_module(module, ours, path)


def load_clip_text(module: ClipTextTower, path: str | Path) -> None:
    """Load the text tower from open_clip's file of a CLIP model, of any image tower; the latter is left out.

    Raises:
        WeightsError: If the file cannot be read or its tensors do not fit.
    """
    tensors = read_tensors(path, leave_out=(*_CLIP_IMAGE, *_CLIP_SHARED))
    fill_module(module, {_rename(name, _CLIP_BLOCK_NAMES): tensor for name, tensor in tensors.items()}, path)


def read_tensors(path: str | Path, *, leave_out: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Read the tensors of a file whose names do not start with one of `leave_out`.

    Raises:
        WeightsError: If it cannot be read.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file; give the path of a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if not name.startswith(leave_out)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: is not a readable safetensors file ({error}); download it again") from error


def _rename(name: str, names: dict[str, str]) -> str:
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def fill_module(module: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Copy the tensors into the module; refuse missing, surplus and misshapen ones.

    Raises:
        WeightsError: If there are some.
    """
    own = module.state_dict()
    # Files older than this counter lack it; a BatchNorm in evaluation mode never reads it.
    missing = [name for name in own if name not in tensors and not name.endswith(".num_batches_tracked")]
    surplus = [name for name in tensors if name not in own]
    misshapen = [
        f"{name} is {tuple(tensor.shape)}, not {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    problems = [
        f"{label} {_some(names)}"
        for label, names in (("missing:", missing), ("surplus:", surplus), ("wrong shape:", misshapen))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{path}: does not fit {type(module).__name__} ({'; '.join(problems)}); "
            "check that file and architecture belong together"
        )
    module.load_state_dict(own | tensors)


def _some(names: list[str], limit: int = 5) -> str:
    """Return the first names of a list, and how many more there are."""
    rest = len(names) - limit
    return ", ".join(sorted(names)[:limit]) + (f" and {rest} more" if rest > 0 else "")
