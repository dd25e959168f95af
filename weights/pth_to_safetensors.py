"""Convert another project's .pth file to a safetensors file with the same names, for `weights convert`.

    python weights/pth_to_safetensors.py clip.pth clip.safetensors
    python weights/pth_to_safetensors.py run.pth run.safetensors --key state_dict --prefix module.

The package itself reads no such files, since unpickling can run code. Here the unpickler is limited to tensors and
plain containers (`weights_only=True`); a file that holds anything else is refused. Use it on files that you trust.
"""

import argparse
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from iqametrics.common.files import write_file
from iqametrics.errors import WeightsError


def main() -> None:
    """Convert the file of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the .pth file")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    parser.add_argument("--key", action="append", default=[], help="entry of the file that holds the tensors; repeat")
    parser.add_argument("--prefix", default="", help="prefix to remove from the names")
    args = parser.parse_args()
    tensors = state_dict(read(args.source), args.key, args.prefix)
    write_file(args.target, save(tensors), error=WeightsError)
    print(f"{args.target}: {len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values())} values")


def read(source: Path) -> Any:
    """Read a .pth file of nothing but tensors and plain containers."""
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        sys.exit(f"{source}: cannot be read as plain tensors ({str(error).splitlines()[0]})")


def state_dict(content: Any, keys: list[str], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file's content, each with its own memory, as safetensors needs them."""
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            sys.exit(f"--key {key}: the file has no such entry")
        content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        known = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        sys.exit(f"the file holds more than tensors ({known[:200]}); name the entry that holds them by --key")
    return {
        str(name).removeprefix(prefix): tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in content.items()
    }


if __name__ == "__main__":
    main()
