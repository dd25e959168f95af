"""Writing and reading checkpoints: safetensors files that describe themselves (`untrusted.py` lists the metadata).

Each tensor is read when it is needed. So a file is compared with the model of its config when only its header has been
read, and no more than one tensor is in memory beside the model.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from iqametrics.common.devices import defaults_of_torch
from iqametrics.common.files import write_file
from iqametrics.errors import IqaError, MissingExtraError, WeightsError
from iqametrics.fingerprint import make_fingerprint
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest, verified_bytes
from iqametrics.weights.untrusted import (
    METADATA_KEY,
    Place,
    check_metadata,
    counted_building,
    one_line,
    parse_head,
    parse_places,
    read_head,
    read_metadata,
    shown,
)

__all__ = ["build_and_fill", "fill", "load_checkpoint", "parse_checkpoint", "read_metadata", "save_checkpoint"]

BACKBONE = "backbone."
_SPARE_ELEMENTS = 2**22
_CONTENT = "content "
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

_Reader = Callable[[int, int], bytearray]


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a checkpoint by name, on the CPU in the dtype they are stored in, each read when it is accessed.

    Args:
        places: For each tensor its place, and the function that reads bytes BEGIN to END of its file.
        metadata: What the file says of itself, with the digest of what was written; None for a file that is known to be
            whole.
        own: Names of the tensors that are in the file itself; None for all.
    """

    def __init__(
        self,
        places: Mapping[str, tuple[Place, _Reader]],
        metadata: Mapping[str, Any] | None = None,
        own: Iterable[str] | None = None,
    ) -> None:
        self._places = dict(places)
        self._metadata = metadata
        self._own = frozenset(self._places if own is None else own)

    def __getitem__(self, name: str) -> Tensor:
        place, read = self._places[name]
        if place.begin == place.end:
            return torch.empty(place.shape, dtype=_DTYPES[place.dtype])
        return torch.frombuffer(read(place.begin, place.end), dtype=_DTYPES[place.dtype]).reshape(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def outline(self) -> dict[str, Tensor]:
        """Return shapes and dtypes as tensors without content; nothing is read."""
        return {
            name: torch.empty(place.shape, dtype=_DTYPES[place.dtype], device="meta")
            for name, (place, _) in self._places.items()
        }

    def with_base(self, base: "StoredTensors") -> "StoredTensors":
        """Add the tensors of a base file, as those of the backbone, where this file has none of that name."""
        places = {BACKBONE + name: place for name, place in base._places.items()} | self._places
        return StoredTensors(places, self._metadata, self._own)

    def check(self, source: str) -> None:
        """Compare with the digest that the file carries; all of it is read, a tensor at a time.

        Raises:
            WeightsError: If it holds anything else than what was written. A file of another writer carries no digest.
        """
        if self._metadata is None:
            return
        written = self._metadata.get("fingerprint", {}).get("weights")
        if not isinstance(written, str) or not written.startswith(_CONTENT):
            return
        try:
            found = _content_digest(self._metadata, self, self._own)
        except (RuntimeError, MemoryError) as error:
            raise WeightsError(f"{source}: needs more memory than there is; free some") from error
        if found != written:
            raise WeightsError(f"{source}: is damaged, it holds other weights than were written; get it anew")


def save_checkpoint(
    path: str | Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, Any], *, dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint atomically: the whole file exists, or none.

    Args:
        path: File to write; an existing one is replaced.
        state_dict: Tensors by name.
        metadata: The fields listed in `untrusted.py`; "format" and "fingerprint" are filled in.
        dtype: Floating dtype to store in, for instance torch.float16 to halve the file; None keeps each tensor's own.

    Raises:
        WeightsError: If a metadata field is missing or wrong, a value cannot be stored (NaN, infinity, or too large for
            `dtype`), or the file cannot be written.
    """
    path = Path(path)
    metadata = {"format": 1, **metadata}
    check_metadata(metadata, str(path))
    tensors = {name: _storable(name, tensor, dtype) for name, tensor in state_dict.items()}
    try:
        # As it will be read: texts as keys, lists for tuples.
        record = json.loads(json.dumps(metadata, allow_nan=False))
        record["fingerprint"] = _fingerprint(record, tensors)
        content = to_bytes(tensors, metadata={METADATA_KEY: json.dumps(record, allow_nan=False)})
    except (SafetensorError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be written ({error}); check the metadata") from error
    write_file(path, content, error=WeightsError)


def load_checkpoint(path: str | Path, *, folder: Path = WEIGHTS_FOLDER) -> tuple[dict[str, Any], StoredTensors]:
    """Read a checkpoint file.

    Args:
        path: A .safetensors file written by `save_checkpoint`.
        folder: Folder of the manifest and the base files.

    Returns:
        Its metadata and its tensors, with those of its base file.

    Raises:
        WeightsError: If the file is missing or damaged, or its base file is.
    """
    metadata, places = read_head(path)
    read = partial(_read_file, Path(path))
    tensors = StoredTensors({name: (place, read) for name, place in places.items()}, metadata)
    return metadata, _with_base(tensors, metadata, folder)


def parse_checkpoint(
    content: bytes, *, source: str, folder: Path = WEIGHTS_FOLDER
) -> tuple[dict[str, Any], StoredTensors]:
    """Read a checkpoint from the bytes of its file; otherwise as `load_checkpoint`."""
    metadata, places = parse_head(content, len(content), source)
    return metadata, _with_base(_in_memory(content, places), metadata, folder)


def build_and_fill(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], *, source: str) -> nn.Module:
    """Build a model and fill it with tensors, in float32.

    What building the model allocates is counted against what the file holds, so that a checkpoint with an absurd config
    is refused before it takes any memory.

    Args:
        build: Makes the model of the checkpoint's config.
        tensors: All its parameters and persistent buffers, by name.
        source: Name of the checkpoint in error messages.

    Raises:
        WeightsError: If no model can be built from the config, or the tensors do not fit it.
        MissingExtraError: If the model needs a package that is not installed.
    """
    outline = _outline(tensors)
    # Twice, since a buffer may be derived from another tensor; the rest is for buffers that are not stored.
    budget = 2 * sum(tensor.numel() for tensor in outline.values()) + _SPARE_ELEMENTS
    try:
        # What the building draws is overwritten; the caller's generator stays as it was.
        with torch.random.fork_rng(devices=[]), defaults_of_torch(), counted_building(budget, source):
            model = build()
    except (WeightsError, MissingExtraError):
        raise
    except (IqaError, TypeError, ValueError, KeyError, ArithmeticError, RuntimeError, MemoryError) as error:
        reason = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise WeightsError(f"{source}: its config makes no model ({reason}); get the checkpoint anew") from error
    fill(model, tensors, source=source)
    return model


def fill(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into a model, strictly: each name of the model is filled and no tensor is left over.

    Args:
        model: The model, which keeps its dtypes: half-precision weights become float32 in a float32 model.
        tensors: Tensors by name of parameter or persistent buffer.
        source: Name of the checkpoint in error messages.

    Raises:
        WeightsError: If names or shapes differ, an integer stands where a float should, a value is not finite, or the
            file is not what was written.
    """
    own = model.state_dict()
    _check_fit(own, _outline(tensors), source)
    if isinstance(tensors, StoredTensors):
        tensors.check(source)
    for name, target in own.items():
        try:
            target.copy_(tensors[name])
            # Checked in the model's dtype: a float64 of 1e300 is finite until it becomes a float32. A sum is finite
            # only of finite values, and three times as fast as looking at each; finite values may still overflow it.
            finite = math.isfinite(target.sum().item()) or bool(target.isfinite().all())
        except (RuntimeError, MemoryError) as error:
            raise WeightsError(f"{source}: tensor {name} needs more memory than there is; free some") from error
        if not finite:
            raise WeightsError(f"{source}: tensor {name} holds NaN or infinity; get the checkpoint anew")


def _fingerprint(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Make the fingerprint that a file carries of itself: a digest of its content stands for that of the file."""
    own = make_fingerprint(
        metadata["metric"],
        tag=metadata["tag"],
        weights=_content_digest(metadata, tensors, tensors),
        preprocessing=metadata["sizing"],
    )
    return own.to_dict()


def _content_digest(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """Digest the metadata of a file, but for the fingerprint, and its tensors."""
    said = {key: value for key, value in metadata.items() if key != "fingerprint"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, allow_nan=False).encode())
    for name in sorted(names):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return f"{_CONTENT}{digest.hexdigest()}"


def _with_base(tensors: StoredTensors, metadata: Mapping[str, Any], folder: Path) -> StoredTensors:
    if metadata["backbone"] is None:
        return tensors
    base = read_manifest(folder).base(**metadata["backbone"])
    content = verified_bytes(base.file, base.sha256, folder)
    return tensors.with_base(_in_memory(content, parse_places(content, base.file)))


def _in_memory(content: bytes, places: Mapping[str, Place]) -> StoredTensors:
    def read(begin: int, end: int) -> bytearray:
        return bytearray(memoryview(content)[begin:end])

    return StoredTensors({name: (place, read) for name, place in places.items()})


def _read_file(path: Path, begin: int, end: int) -> bytearray:
    try:
        content = bytearray(end - begin)
        with path.open("rb") as file:
            file.seek(begin)
            count = file.readinto(content)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); look at the disk") from error
    except MemoryError as error:
        raise WeightsError(f"{path}: a tensor of {end - begin} bytes needs more memory than there is") from error
    if count != len(content):
        raise WeightsError(f"{path}: became shorter while it was read; try again")
    return content


def _outline(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return tensors.outline() if isinstance(tensors, StoredTensors) else tensors


def _storable(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if not tensor.isfinite().all():
        raise WeightsError(f"tensor {name} holds NaN or infinity as {tensor.dtype}; store it in another dtype")
    return tensor.clone(memory_format=torch.contiguous_format)  # safetensors refuses memory that is shared


def _check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
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
