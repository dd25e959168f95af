"""Starting files of the paper-size models as timm and open_clip write them, with random weights."""

from pathlib import Path

import open_clip
import timm
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

TEXT_LAYERS = 2
"""Text towers are cut short: they are run once, and what they hold says how long they are."""


def write_resnet50(path: Path, images: Tensor) -> nn.Module:
    """Write timm's ResNet-50, which has torchvision's names.

    Its BatchNorms will be frozen, so their statistics are set to those of some images, (N, 3, H, W) in [0, 1], and no
    residual branch begins with a scale of 0.
    """
    model = timm.create_model("resnet50.tv_in1k", pretrained=False, zero_init_last=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    with torch.no_grad():
        model.train()((images - mean) / std)
    return _write(model, path)


def write_deit3(path: Path) -> nn.Module:
    """Write timm's DeiT III at small size."""
    return _write(timm.create_model("deit3_small_patch16_224.fb_in22k_ft_in1k", pretrained=False), path)


def write_clip_rn50(path: Path) -> CLIP:
    """Write open_clip's CLIP with RN50's text space and next to no image tower, which BPCLIP does not use."""
    vision = CLIPVisionCfg(layers=1, width=64, head_width=64, image_size=32, patch_size=16)
    return _write(CLIP(1024, vision, _text("RN50-quickgelu"), quick_gelu=True), path)


def write_clip_vit_b16(path: Path) -> CLIP:
    """Write open_clip's CLIP ViT-B/16."""
    vision = CLIPVisionCfg(**open_clip.get_model_config("ViT-B-16-quickgelu")["vision_cfg"])
    return _write(CLIP(512, vision, _text("ViT-B-16-quickgelu"), quick_gelu=True), path)


def _text(name: str) -> CLIPTextCfg:
    return CLIPTextCfg(**{**open_clip.get_model_config(name)["text_cfg"], "layers": TEXT_LAYERS})


def _write(model: nn.Module, path: Path) -> nn.Module:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return model.eval().requires_grad_(False)


def seeded(seed: int = 0) -> None:
    """Make the random weights the same each time."""
    torch.manual_seed(seed)
