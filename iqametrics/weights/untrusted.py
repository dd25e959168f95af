"""Checkpoints from anybody: a hostile file is refused before it costs time or memory.

A checkpoint is a file from the internet. Its header can claim more tensors than it holds, name one twice, or nest until
a reader runs out of stack; its config can ask for a model of any size. The safetensors library checks a part of this,
only after it has read the file, and it needs torch or numpy, which `info` must not import. So the header is parsed and
checked here, and what torch allocates for a config is counted against what the file holds.

A safetensors file begins with the length of its header (8 bytes, little endian) and the header, a JSON object that
gives each tensor's dtype, shape and place. Ours holds one metadata key, "iqametrics", whose value is again JSON:

    format     1
    metric     registered name of the metric, or of a training objective such as "pfd-teacher"
    tag        name of the checkpoint
    config     the model's config
    sizing     {"min_side", "max_side"}: the size at which the model looks at images; optionally "short_side", to which
               every image's shorter side is scaled first
    backbone   null, or {"name", "sha256"} of the bundled base file whose tensors fill the names "backbone.*" that this
               file lacks
    training   what it was trained on and how: data, recipe, commit, hardware, date
    licence    terms of the weights
    results    measured results
    sources    where each part comes from
    fingerprint
               metric, version and sizing, with a digest of all that the file holds
"""

import json
import math
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqametrics.errors import WeightsError

METADATA_KEY = "iqametrics"
FORMAT = 1
# The header of the largest model here has some 50 kB; a hostile one claims to be gigabytes long.
MAX_HEADER_BYTES = 8 * 2**20
# Ten times the largest model here. A sparse file costs its maker nothing and would take all memory of its reader.
MAX_FILE_BYTES = 4 * 2**30
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
# No tensor here has more than five dimensions; the product of a million huge ones would take hours.
_MAX_DIMENSIONS = 16
_MAX_SIDE = 2**48
# Metadata are two or three levels deep; later code that walks them must not run out of stack.
_MAX_DEPTH = 16
_MAX_NAME = 100
_NAMES_SHOWN = 4
_LONGEST_SHOWN = 160
_LONGEST_REASON = 400


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a safetensors file, and what it is.

    Attributes:
        dtype: One of `ITEM_BYTES`.
        shape: Its shape.
        begin: Offset of its first byte in the file.
        end: Offset of the byte after its last.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "metric": (str,),
    "tag": (str,),
    "config": (dict,),
    "sizing": (dict,),
    "backbone": (dict, type(None)),
}
_OPTIONAL: dict[str, tuple[type, ...]] = {
    "training": (dict,),
    "licence": (str,),
    "results": (dict,),
    "sources": (dict, list),
    "fingerprint": (dict,),
}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's metadata.

    Args:
        path: A .safetensors file written by `save_checkpoint`.

    Returns:
        The fields listed at the top of this module.

    Raises:
        WeightsError: If the file is missing, damaged, no safetensors file or no checkpoint of this package.
    """
    return read_head(path)[0]


def read_head(path: str | Path) -> tuple[dict[str, Any], dict[str, Place]]:
    """Read a checkpoint's metadata and the places of its tensors.

    Raises:
        WeightsError: If `read_metadata` would refuse the file.
    """
    return parse_head(*_read_start(path), str(path))


def read_sizes(path: str | Path) -> dict[str, int]:
    """Count the elements of each tensor of a safetensors file, ours or not, without reading the tensors.

    Raises:
        WeightsError: If the file is missing or damaged, or is no safetensors file.
    """
    start, size = _read_start(path)
    return {name: math.prod(place.shape) for name, place in parse_places(start, str(path), size).items()}


def parse_places(start: bytes, source: str, size: int | None = None) -> dict[str, Place]:
    """Return the places of the tensors in a safetensors file, ours or not.

    Args:
        start: The first bytes of the file, with the whole header.
        source: Name of the file in error messages.
        size: Size of the whole file in bytes; None where `start` is all of it.

    Raises:
        WeightsError: If it is damaged, or no safetensors file.
    """
    size = len(start) if size is None else size
    end = 8 + _header_length(start[:8], size, source)
    table = _json_object(start[8:end], source, "header")
    table.pop("__metadata__", None)
    return _places(table, end, size, source)


def shown(names: Iterable[str], limit: int = _NAMES_SHOWN) -> str:
    """List the first few names of a damaged or hostile file, short and on one line."""
    texts = [
        name if name.isprintable() and len(name) <= _LONGEST_SHOWN else repr(name[:_LONGEST_SHOWN]) for name in names
    ]
    rest = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {rest} more" if rest > 0 else "")


def one_line(text: object, limit: int = _LONGEST_REASON) -> str:
    """Make a short printable line of a reason that may quote a hostile file."""
    words = " ".join(str(text).split())
    return "".join(character if character.isprintable() else "?" for character in words[:limit])


def _read_start(path: str | Path) -> tuple[bytes, int]:
    """Read the header, with the 8 bytes before it, and the size of the file."""
    try:
        # Opening a pipe would wait for a writer, and a device has no end.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise WeightsError(f"{path}: cannot be read (not a regular file); give the path of a .safetensors file")
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(8)
            return start + file.read(_header_length(start, size, str(path))), size
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cannot be read ({reason}); give the path of a .safetensors file") from error


def parse_head(start: bytes, size: int, source: str) -> tuple[dict[str, Any], dict[str, Place]]:
    """Check the header of a checkpoint; return its metadata and the places of its tensors.

    Args:
        start: The first bytes of the file, with the whole header.
        size: Size of the whole file in bytes.
        source: Name of the file in error messages.

    Raises:
        WeightsError: If `read_metadata` would refuse the file.
    """
    length = _header_length(start[:8], size, source)
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"{source}: has {size} bytes, more than any checkpoint; get it anew")
    header = _json_object(start[8 : 8 + length], source, "header")
    extra = header.pop("__metadata__", {})
    places = _places(header, 8 + length, size, source)
    text = extra.get(METADATA_KEY) if isinstance(extra, dict) else None
    if not isinstance(text, str):
        raise WeightsError(
            f"{source}: holds tensors but no {METADATA_KEY!r} metadata; it is no checkpoint of iqametrics"
        )
    metadata = _json_object(text.encode("utf-8", "surrogatepass"), source, "metadata")
    check_metadata(metadata, source)
    return metadata, places


def check_metadata(metadata: dict[str, Any], source: str) -> None:
    """Check that the fields of a checkpoint's metadata are there and of the right type.

    Raises:
        WeightsError: If one is missing, unknown or of another type.
    """
    unknown = sorted(set(metadata) - set(_FIELDS) - set(_OPTIONAL))
    missing = sorted(set(_FIELDS) - set(metadata))
    if unknown or missing:
        what = f"unknown {shown(unknown)}" if unknown else f"missing {shown(missing)}"
        raise WeightsError(f"{source}: its metadata has fields {what}; write it with this version's save_checkpoint")
    for name, types in (_FIELDS | _OPTIONAL).items():
        if name in metadata and (not isinstance(metadata[name], types) or isinstance(metadata[name], bool)):
            raise WeightsError(f"{source}: {name} of its metadata is a {type(metadata[name]).__name__}; get it anew")
    if metadata["format"] != FORMAT:
        raise WeightsError(
            f"{source}: is of checkpoint format {str(metadata['format'])[:20]}, this version reads {FORMAT}; "
            "update iqametrics"
        )
    for name in ("metric", "tag"):
        # Both appear in messages, tables and names like "metric.tag".
        if not _is_short(metadata[name]) or "/" in metadata[name]:
            raise WeightsError(f"{source}: {name} of its metadata is no name; get it anew")
    backbone = metadata["backbone"]
    if backbone is not None and (set(backbone) != {"name", "sha256"} or not all(map(_is_short, backbone.values()))):
        raise WeightsError(f"{source}: backbone of its metadata must have a name and a sha256; get it anew")


def _is_short(value: object) -> bool:
    """Tell whether a value can stand in a message: a name, on one line."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def _header_length(start: bytes, size: int, source: str) -> int:
    """Read the length of the header, and check it against the file's size before the header is read."""
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise WeightsError(f"{source}: is a pickled (.pth) file, which can run code; give a .safetensors file")
        raise WeightsError(f"{source}: is cut short or no safetensors file ({size} bytes); get it anew")
    if length > MAX_HEADER_BYTES:
        raise WeightsError(f"{source}: claims a header of {length} bytes, more than any checkpoint has; get it anew")
    return length


def _json_object(text: bytes, source: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_finite_number, parse_float=_finite_number
        )
        _check_depth(value, _MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{source}: its {what} is not readable ({_reason(error)}); get it anew") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{source}: its {what} is not a JSON object; get it anew")
    return value


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _DamagedJsonError) else type(error).__name__


class _DamagedJsonError(ValueError):
    """JSON that Python reads but that this package never writes."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of a JSON object's pairs; equal keys are refused, since readers differ in which they take."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _DamagedJsonError("a key stands twice")
    return values


def _finite_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _DamagedJsonError("a number is not finite")
    return value


def _check_depth(value: object, levels: int) -> None:
    if isinstance(value, dict | list):
        if levels == 0:
            raise _DamagedJsonError("it is nested too deeply")
        for part in value.values() if isinstance(value, dict) else value:
            _check_depth(part, levels - 1)


def _places(table: Mapping[str, Any], data_begin: int, size: int, source: str) -> dict[str, Place]:
    """Check that each tensor has a known dtype and its shape's size, and that they fill the file without a gap."""
    places = {}
    for name, entry in table.items():
        try:
            begin, end = entry["data_offsets"]
            shape = entry["shape"]
            whole = all(type(value) is int and 0 <= value <= _MAX_SIDE for value in (begin, end, *shape))
            fits = whole and len(shape) <= _MAX_DIMENSIONS and end <= size - data_begin
            fits = fits and end - begin == ITEM_BYTES[entry["dtype"]] * math.prod(shape)
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise WeightsError(
                f"{source}: tensor {name[:80]!r} has an unknown dtype or does not fit the file; get it anew"
            )
        places[name] = Place(entry["dtype"], tuple(shape), data_begin + begin, data_begin + end)
    position = data_begin
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end, item[0])):
        if place.begin != position:
            raise WeightsError(f"{source}: tensor {name[:80]!r} overlaps another or leaves a gap; get it anew")
        position = place.end
    if position != size:
        raise WeightsError(f"{source}: {size - position} bytes belong to no tensor; get it anew")
    return places


def counted_building(budget: int, source: str) -> AbstractContextManager[Any]:
    """Count what torch allocates, and skip the initialisation of parameters, which are filled later.

    Args:
        budget: Number of elements that may be allocated in all.
        source: Name of the checkpoint in error messages.

    Returns:
        A context, in which a WeightsError is raised as soon as the budget is spent.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    allocators = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}

    class Counter(TorchFunctionMode):
        left = budget

        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            if func in allocators:
                size = kwargs.get("size", args)
                self.left -= math.prod(_ints(size[:1] if func is torch.full else size))
                if self.left < 0:
                    raise WeightsError(f"{source}: its config asks for a larger model than it holds; get it anew")
            return func(*args, **kwargs)

    return Counter()


def _ints(size: Any) -> Iterator[int]:
    for part in size:
        if isinstance(part, int):
            yield part
        elif isinstance(part, tuple | list):
            yield from _ints(part)
