"""Which checkpoints exist, read from `manifest.json` without importing torch.

    {"format": 1,
     "checkpoints": [{"metric", "tag", "default", "source", "file", "sha256", "bytes", "licence"}, ...],
     "bases": [{"name", "file", "sha256"}, ...]}

A base is a frozen backbone that several checkpoints share, so that it is stored once. `source` is "bundled": the file
lies beside the manifest.
"""

import hashlib
import json
import re
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from iqametrics.errors import WeightsError

WEIGHTS_FOLDER = Path(__file__).parent
_FORMAT = 1
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True, kw_only=True)
class CheckpointEntry:
    """One checkpoint of a metric.

    Attributes:
        metric: Registered name of the metric.
        tag: Name of the checkpoint among those of the metric.
        default: Whether it is what `create_metric(metric)` loads.
        source: Where the file is: "bundled".
        file: Name of the file, without a folder.
        sha256: Its digest, in hexadecimal.
        bytes: Its size.
        licence: Terms of the weights, which are not those of the code.
    """

    metric: str
    tag: str
    default: bool
    source: str
    file: str
    sha256: str
    bytes: int
    licence: str


@dataclass(frozen=True, kw_only=True)
class BaseEntry:
    """One backbone file that checkpoints refer to by name and digest."""

    name: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All checkpoints and the bases they refer to."""

    checkpoints: tuple[CheckpointEntry, ...]
    bases: tuple[BaseEntry, ...]

    def of_metric(self, metric: str) -> tuple[CheckpointEntry, ...]:
        """Checkpoints of a metric, the default one first."""
        return tuple(
            sorted((entry for entry in self.checkpoints if entry.metric == metric), key=lambda e: not e.default)
        )

    def base(self, name: str, sha256: str) -> BaseEntry:
        """Find a base by name and digest.

        Raises:
            WeightsError: There is none.
        """
        for entry in self.bases:
            if (entry.name, entry.sha256) == (name, sha256):
                return entry
        raise WeightsError(
            f"the checkpoint needs the backbone file {name!r} with SHA-256 {sha256[:12]}..., which this version of "
            "iqametrics does not have; use the version that wrote it"
        )


@lru_cache(maxsize=8)
def read_manifest(folder: Path = WEIGHTS_FOLDER) -> Manifest:
    """Read `manifest.json` of a folder, once.

    Raises:
        WeightsError: It is missing or damaged.
    """
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r} instead of {_FORMAT}")
        manifest = Manifest(
            tuple(_entry(CheckpointEntry, values) for values in content["checkpoints"]),
            tuple(_entry(BaseEntry, values) for values in content["bases"]),
        )
        _check_unique(manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: is not a readable manifest ({error}); reinstall iqametrics") from error
    return manifest


def verified_bytes(file: str, sha256: str, folder: Path = WEIGHTS_FOLDER) -> bytes:
    """Read a bundled file and check its digest.

    Raises:
        WeightsError: It is missing, or is not the file that the manifest means.
    """
    path = folder / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); reinstall iqametrics") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{path}: its SHA-256 is not that of the manifest; the file is damaged, reinstall iqametrics"
        )
    return content


_Entry = TypeVar("_Entry", CheckpointEntry, BaseEntry)


def _entry(kind: type[_Entry], values: dict[str, Any]) -> _Entry:
    entry = kind(**values)
    for field in fields(entry):
        if type(getattr(entry, field.name)) is not field.type:
            raise ValueError(f"{field.name} of {values!r} is not of type {field.type}")
    if not _FILE_NAME.fullmatch(entry.file):
        raise ValueError(f"{entry.file!r} is not the name of a .safetensors file beside the manifest")
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        raise ValueError(f"{entry.sha256!r} is not a SHA-256 in hexadecimal")
    return entry


def _check_unique(manifest: Manifest) -> None:
    names = [(entry.metric, entry.tag) for entry in manifest.checkpoints]
    defaults = [entry.metric for entry in manifest.checkpoints if entry.default]
    for seen, what in ((names, "checkpoint"), (defaults, "default checkpoint")):
        if len(set(seen)) != len(seen):
            raise ValueError(f"a {what} stands twice")
    if any(entry.source != "bundled" for entry in manifest.checkpoints):
        raise ValueError("a source is not 'bundled'")
