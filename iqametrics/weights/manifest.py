"""Which checkpoints exist, read from `manifest.json` without importing torch.

    {"format": 1,
     "checkpoints": [{"metric", "tag", "default", "source", "file", "sha256", "bytes", "licence", ...}, ...],
     "bases": [{"name", "file", "sha256"}, ...]}

A base is a frozen backbone that several checkpoints share, so that it is stored once. The file of a bundled checkpoint
lies beside the manifest, and its training data, config and results are read from the file itself. A checkpoint on the
Hub cannot be read before it is fetched, so its manifest entry has them: `repo`, `revision`, `training_data`, `config`
and `results` are required there and refused elsewhere.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from iqametrics.common.fields import read_fields
from iqametrics.errors import WeightsError
from iqametrics.weights.untrusted import one_line

WEIGHTS_FOLDER = Path(__file__).parent
_FORMAT = 1
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_HUB_FIELDS = ("repo", "revision", "training_data", "config", "results")


@dataclass(frozen=True, kw_only=True)
class CheckpointEntry:
    """One checkpoint of a metric.

    Attributes:
        metric: Registered name of the metric.
        tag: Name of the checkpoint among those of the metric.
        default: Whether `create_metric(metric)` loads it.
        source: Where the file is: "bundled" with the package, or on the "hub".
        file: Name of the file, without a folder.
        sha256: Its digest, in hexadecimal.
        bytes: Its size.
        licence: Terms of the weights, which are not those of the code.
        repo: Repository on the Hub, "ORG/NAME"; None for a bundled file, as are the following.
        revision: The commit, 40 hexadecimal digits: a branch can move, a commit cannot.
        training_data: Names of the data that it was trained on.
        config: The model's config.
        results: Measured results.
    """

    metric: str
    tag: str
    default: bool
    source: str
    file: str
    sha256: str
    bytes: int
    licence: str
    repo: str | None = None
    revision: str | None = None
    training_data: list[str] | None = None
    config: dict[str, Any] | None = None
    results: dict[str, Any] | None = None

    @property
    def full_name(self) -> str:
        """Name of metric and checkpoint, e.g. "pfd-iqa.lite"."""
        return f"{self.metric}.{self.tag}"


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
        """Return the checkpoints of a metric, the default one first."""
        return tuple(
            sorted((entry for entry in self.checkpoints if entry.metric == metric), key=lambda e: not e.default)
        )

    def base(self, name: str, sha256: str) -> BaseEntry:
        """Find a base by name and digest.

        Raises:
            WeightsError: If this version of the package has no such base.
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
        WeightsError: If it is missing or damaged.
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
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: is not a readable manifest ({one_line(error)}); reinstall iqametrics") from error
    return manifest


def verified_bytes(file: str, sha256: str, folder: Path = WEIGHTS_FOLDER) -> bytes:
    """Read a bundled file and check its digest.

    Raises:
        WeightsError: If it is missing, or its digest is not that of the manifest.
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


def base_bytes(name: str, folder: Path = WEIGHTS_FOLDER) -> bytes | None:
    """Read the bundled base file of a name, its digest checked; None where the manifest has none of it.

    Raises:
        WeightsError: If the manifest or the file is damaged.
    """
    for base in read_manifest(folder).bases:
        if base.name == name:
            return verified_bytes(base.file, base.sha256, folder)
    return None


_Entry = TypeVar("_Entry", CheckpointEntry, BaseEntry)


def is_revision(text: str) -> bool:
    """Tell whether a text is a commit, 40 hexadecimal digits, and not a branch."""
    return _REVISION.fullmatch(text) is not None


def is_repo(text: str) -> bool:
    """Tell whether a text can be the name of a repository on the Hub, "ORG/NAME"."""
    return _REPO.fullmatch(text) is not None and ".." not in text and "--" not in text


def is_file_name(text: str) -> bool:
    """Tell whether a text is the name of a safetensors file, without a folder."""
    return _FILE_NAME.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Tell whether a text is a SHA-256 in hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def _entry(kind: type[_Entry], values: dict[str, Any]) -> _Entry:
    if nothing := [name for name, value in values.items() if value is None]:
        raise ValueError(f"{', '.join(nothing)} is null; leave it out")
    entry = read_fields(kind, values, "entry", error=ValueError, top=True)
    if not is_file_name(entry.file):
        raise ValueError(f"{entry.file!r} is not the name of a .safetensors file without a folder")
    if not is_sha256(entry.sha256):
        raise ValueError(f"{entry.sha256!r} is not a SHA-256 in hexadecimal")
    if isinstance(entry, CheckpointEntry):
        _check_source(entry)
    return entry


def _check_source(entry: CheckpointEntry) -> None:
    """Check that an entry has the fields that its source needs, and no others."""
    name = entry.full_name
    if entry.bytes <= 0:
        raise ValueError(f"{name}: bytes is {entry.bytes}; give the size of the file")
    present = [field for field in _HUB_FIELDS if getattr(entry, field) is not None]
    if entry.source == "bundled":
        if present:
            raise ValueError(f"{name}: is bundled, so the file itself tells {', '.join(present)}; leave it out")
    elif entry.source == "hub":
        if missing := [field for field in _HUB_FIELDS if field not in present]:
            raise ValueError(f"{name}: is on the Hub and lacks {', '.join(missing)}")
        _check_pin(entry)
    else:
        raise ValueError(f"{name}: source is {entry.source!r}, neither 'bundled' nor 'hub'")


def _check_pin(entry: CheckpointEntry) -> None:
    if not is_repo(entry.repo or ""):
        raise ValueError(f"{entry.full_name}: {entry.repo!r} is no repository's name, ORG/NAME")
    if not is_revision(entry.revision or ""):
        raise ValueError(f"{entry.full_name}: {entry.revision!r} is no commit of 40 digits; a branch can move")
    if not entry.training_data:
        raise ValueError(f"{entry.full_name}: training_data is not a list of names")


def _check_unique(manifest: Manifest) -> None:
    names = [(entry.metric, entry.tag) for entry in manifest.checkpoints]
    defaults = [entry.metric for entry in manifest.checkpoints if entry.default]
    for seen, what in ((names, "checkpoint"), (defaults, "default checkpoint")):
        if len(set(seen)) != len(seen):
            raise ValueError(f"a {what} stands twice")
