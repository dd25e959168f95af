"""The head of a checkpoint file, read and checked without importing torch and before anything large is allocated.

A safetensors file begins with the length of its header (8 bytes, little endian) and the header, a JSON object that
gives each tensor's dtype, shape and place. Ours holds one metadata key, "iqametrics", whose value is again JSON:

    format     1
    metric     registered name of the metric, or of a training objective such as "pfd-teacher"
    tag        name of the checkpoint
    config     the model's config
    sizing     {"min_side", "max_side"}: the size at which the model looks at images
    backbone   null, or {"name", "sha256"} of the bundled base file whose tensors fill the names "backbone.*" that this
               file lacks
    training   what it was trained on and how: data, recipe, commit, hardware, date
    licence    terms of the weights
    results    measured results
    sources    where each part comes from
"""

import json
import math
from pathlib import Path
from typing import Any

from iqametrics.errors import WeightsError

METADATA_KEY = "iqametrics"
FORMAT = 1
# The header of the largest model here has some 50 kB; a hostile one claims to be gigabytes long.
MAX_HEADER_BYTES = 8 * 2**20
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}

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
}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself.

    Args:
        path: A .safetensors file written by `save_checkpoint`.

    Returns:
        The fields listed at the top of this module.

    Raises:
        WeightsError: The file is missing, damaged, no safetensors file or no checkpoint of this package.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(8)
            length = _header_length(start, size, str(path))
            return parse_header(start + file.read(length), size, str(path))
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); give the path of a .safetensors file"
        ) from error


def parse_header(start: bytes, size: int, source: str) -> dict[str, Any]:
    """Check the header of a checkpoint and return its metadata.

    Args:
        start: The first bytes of the file, with the whole header.
        size: Size of the whole file in bytes.
        source: What to call the file in an error message.

    Raises:
        WeightsError: As for `read_metadata`.
    """
    length = _header_length(start[:8], size, source)
    header = _json_object(start[8 : 8 + length], source, "header")
    extra = header.pop("__metadata__", {})
    _check_tensor_table(header, size - 8 - length, source)
    text = extra.get(METADATA_KEY) if isinstance(extra, dict) else None
    if not isinstance(text, str):
        raise WeightsError(
            f"{source}: holds tensors but no {METADATA_KEY!r} metadata; it is no checkpoint of iqametrics"
        )
    metadata = _json_object(text.encode("utf-8", "surrogatepass"), source, "metadata")
    check_metadata(metadata, source)
    return metadata


def check_metadata(metadata: dict[str, Any], source: str) -> None:
    """Check that the fields of a checkpoint's metadata are there and of the right type.

    Raises:
        WeightsError: One is missing, unknown or of another type.
    """
    unknown = sorted(set(metadata) - set(_FIELDS) - set(_OPTIONAL))
    missing = sorted(set(_FIELDS) - set(metadata))
    if unknown or missing:
        what = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise WeightsError(f"{source}: its metadata has fields {what}; write it with this version's save_checkpoint")
    for name, types in (_FIELDS | _OPTIONAL).items():
        if name in metadata and (not isinstance(metadata[name], types) or isinstance(metadata[name], bool)):
            raise WeightsError(f"{source}: {name} of its metadata is a {type(metadata[name]).__name__}; get it anew")
    if metadata["format"] != FORMAT:
        raise WeightsError(
            f"{source}: is of checkpoint format {metadata['format']}, this version reads {FORMAT}; update iqametrics"
        )
    backbone = metadata["backbone"]
    if backbone is not None and (set(backbone) != {"name", "sha256"} or not all(map(_is_text, backbone.values()))):
        raise WeightsError(f"{source}: backbone of its metadata must have a name and a sha256; get it anew")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _header_length(start: bytes, size: int, source: str) -> int:
    """Read the length of the header and check it against the size of the file, before so much is read."""
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
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{source}: its {what} is not readable ({type(error).__name__}); get it anew") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{source}: its {what} is not a JSON object; get it anew")
    return value


def _check_tensor_table(table: dict[str, Any], data_bytes: int, source: str) -> None:
    """Check that each tensor has a known dtype and lies, with the size its shape asks for, within the file."""
    for name, entry in table.items():
        try:
            begin, end = entry["data_offsets"]
            shape = entry["shape"]
            whole = all(type(value) is int and value >= 0 for value in (begin, end, *shape))
            fits = whole and end <= data_bytes and end - begin == ITEM_BYTES[entry["dtype"]] * math.prod(shape)
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise WeightsError(
                f"{source}: tensor {name[:80]!r} has an unknown dtype or does not fit the file; get it anew"
            )
