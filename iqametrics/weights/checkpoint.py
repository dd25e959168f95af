"""Writing and reading checkpoints: safetensors files that describe themselves (`header.py` lists the metadata)."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iqametrics.common.files import write_file
from iqametrics.errors import IqaError, WeightsError
from iqametrics.weights.header import METADATA_KEY, check_metadata, one_line, parse_header, read_metadata, shown
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest, verified_bytes

__all__ = ["build_and_fill", "fill", "load_checkpoint", "parse_checkpoint", "read_metadata", "save_checkpoint"]

BACKBONE = "backbone."
_SPARE_ELEMENTS = 2**22


def save_checkpoint(
    path: str | Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, Any], *, dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint, atomically: the file is there whole or not at all.

    Args:
        path: Where to; an existing file is replaced.
        state_dict: Tensors by name.
        metadata: The fields listed in `header.py`; "format" is filled in.
        dtype: Floating dtype to store in, for instance torch.float16 to halve the file; None keeps each tensor's own.

    Raises:
        WeightsError: A metadata field is missing or wrong, a value cannot be stored (NaN, infinity, or too large for
            `dtype`), or the file cannot be written.
    """
    path = Path(path)
    metadata = {"format": 1, **metadata}
    check_metadata(metadata, str(path))
    tensors = {name: _storable(name, tensor, dtype) for name, tensor in state_dict.items()}
    try:
        content = to_bytes(tensors, metadata={METADATA_KEY: json.dumps(metadata, allow_nan=False)})
    except (SafetensorError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be written ({error}); check the metadata") from error
    write_file(path, content, error=WeightsError)


def load_checkpoint(path: str | Path, *, folder: Path = WEIGHTS_FOLDER) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint file.

    Args:
        path: A .safetensors file written by `save_checkpoint`.
        folder: Where the manifest and the base files lie.

    Returns:
        Its metadata and its tensors, on the CPU in the dtype they are stored in, with those of its base file.

    Raises:
        WeightsError: The file is missing or damaged, or its base file is.
    """
    read_metadata(path)  # refuses what is no checkpoint before the whole file is read
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); give the path of a .safetensors file"
        ) from error
    return parse_checkpoint(content, source=str(path), folder=folder)


def parse_checkpoint(
    content: bytes, *, source: str, folder: Path = WEIGHTS_FOLDER
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint from the bytes of its file; otherwise as `load_checkpoint`."""
    metadata = parse_header(content, len(content), source)
    tensors = _parse_tensors(content, source)
    if metadata["backbone"] is not None:
        base = read_manifest(folder).base(**metadata["backbone"])
        base_tensors = _parse_tensors(verified_bytes(base.file, base.sha256, folder), base.file)
        tensors = {BACKBONE + name: tensor for name, tensor in base_tensors.items()} | tensors
    return metadata, tensors


def build_and_fill(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], *, source: str) -> nn.Module:
    """Build a model and fill it with tensors, in float32.

    What the building allocates is counted against what the file holds, so that a checkpoint with an absurd config is
    refused before it costs anything.

    Args:
        build: Makes the model of the checkpoint's config.
        tensors: All its parameters and persistent buffers, by name.
        source: What to call the checkpoint in an error message.

    Raises:
        WeightsError: The config makes no model, or the tensors do not fit it.
    """
    # Twice, since building may make a tensor to derive a buffer from; and room for buffers that are not stored.
    budget = 2 * sum(tensor.numel() for tensor in tensors.values()) + _SPARE_ELEMENTS
    try:
        with _Unfilled(budget, source):
            model = build()
    except WeightsError:
        raise
    except (IqaError, TypeError, ValueError, KeyError, ArithmeticError, RuntimeError, MemoryError) as error:
        reason = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise WeightsError(f"{source}: its config makes no model ({reason}); get the checkpoint anew") from error
    fill(model, tensors, source=source)
    return model


def fill(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into a model, strictly: each name of the model is filled and no tensor is left over.

    Args:
        model: Keeps its own dtypes: half-precision weights become float32 in a float32 model.
        tensors: By name of parameter or persistent buffer.
        source: What to call the checkpoint in an error message.

    Raises:
        WeightsError: Names or shapes differ, an integer stands where a float should, or a value is not finite.
    """
    _check_fit(model, tensors, source)
    own = model.state_dict()
    for name, tensor in tensors.items():
        # In the model's dtype: a float64 of 1e300 is finite until it becomes a float32.
        if not tensor.to(own[name].dtype).isfinite().all():
            raise WeightsError(f"{source}: tensor {name} holds NaN or infinity; get the checkpoint anew")
    model.load_state_dict(dict(tensors), strict=True)


class _Unfilled(TorchFunctionMode):
    """Within it parameters are not initialised, since they are filled later, and what is allocated is counted.

    Args:
        budget: Number of elements that may be allocated in all.
        source: What to call the checkpoint in an error message.
    """

    def __init__(self, budget: int, source: str) -> None:
        super().__init__()
        self.budget = budget
        self.source = source

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in _ALLOCATORS:
            size = kwargs.get("size", args)
            self.budget -= math.prod(_ints(size[:1] if func is torch.full else size))
            if self.budget < 0:
                raise WeightsError(f"{self.source}: its config asks for a larger model than it holds; get it anew")
        return func(*args, **kwargs)


_ALLOCATORS = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})


def _ints(size: Any) -> Iterator[int]:
    for part in size:
        if isinstance(part, int):
            yield part
        elif isinstance(part, tuple | list):
            yield from _ints(part)


def _storable(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if not tensor.isfinite().all():
        raise WeightsError(f"tensor {name} holds NaN or infinity as {tensor.dtype}; store it in another dtype")
    return tensor.clone(memory_format=torch.contiguous_format)  # safetensors refuses memory that is shared


def _parse_tensors(content: bytes, source: str) -> dict[str, Tensor]:
    try:
        return load_safetensors(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{source}: is not a readable safetensors file ({error}); get it anew") from error


def _check_fit(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    expected = model.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    wrong = [
        f"{name} is {_describe(tensor)}, not {_describe(expected[name])}"
        for name, tensor in tensors.items()
        if name in expected and not _fits(tensor, expected[name])
    ]
    problems = [
        f"{what} {shown(names)}"
        for what, names in (("missing", missing), ("surplus", surplus), ("unfit", wrong))
        if names
    ]
    if problems:
        raise WeightsError(f"{source}: its tensors do not fit the model: {'; '.join(problems)}")


def _fits(tensor: Tensor, expected: Tensor) -> bool:
    return tensor.shape == expected.shape and tensor.is_floating_point() == expected.is_floating_point()


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {'x'.join(map(str, tensor.shape)) or 'scalar'}"
