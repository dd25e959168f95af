"""The weights that training starts from, by name: other projects' files on the Hub, listed in `starting.json`.

    {"format": 1, "starting": [{"name", "kind", "repo", "file", "revision", "sha256", "bytes", "licence"}, ...]}

`revision`, `sha256` and `bytes` are null where they are not known. Without the first two a file is not pinned: the
first fetch warns and records commit and digest in a file below HF_HOME; later fetches accept only the same bytes.
`iqametrics weights pin` marks the record as trusted.
"""

import json
import re
import warnings
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from iqametrics.common.fields import read_fields
from iqametrics.common.files import write_file
from iqametrics.errors import WeightsError
from iqametrics.weights.hub import Fetched, HubFile, fetch
from iqametrics.weights.manifest import WEIGHTS_FOLDER, is_file_name, is_repo, is_revision, is_sha256
from iqametrics.weights.untrusted import one_line

KINDS = ("resnet50", "deit3", "clip")
"""Whose names the tensors of a file have: torchvision's ResNet-50, timm's DeiT III, open_clip's CLIP."""

TABLE = WEIGHTS_FOLDER / "starting.json"
_FORMAT = 1
_NAME = re.compile(r"[a-z0-9_]+")


class UnpinnedWarning(UserWarning):
    """A file that is not pinned was fetched, so there was no digest to compare it with."""


@dataclass(frozen=True, kw_only=True)
class StartingEntry:
    """One starting weight.

    Attributes:
        name: Its name in a recipe's [init].
        kind: One of `KINDS`.
        repo: Repository on the Hub, "ORG/NAME".
        file: File in it.
        revision: Commit of 40 digits; None where it is not known.
        sha256: Digest of the file; None where it is not known.
        bytes: Its size; None where it is not known.
        licence: Terms of the weights, in the Hub's word.
    """

    name: str
    kind: str
    repo: str
    file: str
    revision: str | None
    sha256: str | None
    bytes: int | None
    licence: str

    @property
    def is_pinned(self) -> bool:
        """Whether both commit and digest are known."""
        return self.revision is not None and self.sha256 is not None


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Record, below HF_HOME, of what was fetched for a name that the package does not pin.

    Attributes:
        name: Name of the starting weight.
        repo: Repository that it came from.
        file: File in it.
        revision: Commit of 40 digits.
        sha256: Digest of the file.
        bytes: Its size.
        date: When it was first fetched, UTC.
        trusted: Whether `iqametrics weights pin` has confirmed it.
    """

    name: str
    repo: str
    file: str
    revision: str
    sha256: str
    bytes: int
    date: str
    trusted: bool


def list_starting() -> list[str]:
    """List the names of the starting weights, sorted.

    Examples:
        >>> "resnet50_tv_in1k" in list_starting()
        True
    """
    return sorted(_read_table(TABLE))


def starting_entry(name: str) -> StartingEntry:
    """Return the entry of a starting weight; needs no network.

    Raises:
        WeightsError: If there is none of that name.
    """
    table = _read_table(TABLE)
    if name not in table:
        raise WeightsError(f"unknown starting weight {name!r}; known: {', '.join(sorted(table))}")
    return table[name]


def starting_file(name: str, *, force: bool = False) -> Path:
    """Fetch a starting weight unless the cache has it, and verify its SHA-256.

    Args:
        name: One of `list_starting()`.
        force: Fetch it anew even if it is cached.

    Raises:
        WeightsError: If there is none of that name, it cannot be fetched, or its bytes are not those recorded.

    Warns:
        UnpinnedWarning: If the file is not pinned and this is its first fetch here.
    """
    entry = starting_entry(name)
    pin = None if entry.is_pinned else read_pin(name)
    fetched = fetch(hub_file(entry), force=force)
    if not entry.is_pinned and pin is None:
        where = _record(entry, fetched, trusted=False)
        warnings.warn(
            f"{name}: is not pinned, so nothing says what the file must be; got commit {fetched.revision}, SHA-256 "
            f"{fetched.sha256}, {where}; if you trust it, `iqametrics weights pin {name}`",
            UnpinnedWarning,
            stacklevel=2,
        )
    return fetched.path


def hub_file(entry: StartingEntry, *, recorded: bool = True) -> HubFile:
    """Return the file on the Hub: pinned by the package, else by the user's record, else not pinned.

    Args:
        entry: The starting weight.
        recorded: Whether to look for the user's record.

    Raises:
        WeightsError: If the user's pin file is damaged.
    """
    pin = None if entry.is_pinned or not recorded else read_pin(entry.name)
    return HubFile(
        name=entry.name,
        repo=entry.repo,
        file=entry.file,
        revision=pin.revision if pin else entry.revision or "main",
        sha256=pin.sha256 if pin else entry.sha256,
    )


def pin_starting(name: str, *, write_package: bool = False) -> StartingEntry | Pin:
    """Record the commit and digest that a name means now as trusted, for the user or in the package.

    Args:
        name: One of `list_starting()`.
        write_package: Whether to write into the package's own table, for maintainers.

    Returns:
        The package's entry if that is pinned, already or now; else the user's pin.

    Raises:
        WeightsError: If it cannot be fetched, is not what was recorded, or the pin cannot be written.
    """
    entry = starting_entry(name)
    if entry.is_pinned:
        return entry
    fetched = fetch(hub_file(entry))
    if write_package:
        _write_table(name, fetched)
        return starting_entry(name)
    where = _record(entry, fetched, trusted=True)
    pin = read_pin(name)
    if pin is None or not pin.trusted:
        raise WeightsError(f"{name}: the pin was {where}; set HF_HOME to a folder that can be written")
    return pin


def pin_path(name: str) -> Path:
    """Return where the user's pin of a name is kept, whether or not there is one."""
    import huggingface_hub.constants

    return Path(huggingface_hub.constants.HF_HOME) / "iqametrics" / "pins" / f"{name}.json"


def read_pin(name: str) -> Pin | None:
    """Read the record of an earlier fetch; None where there is none, or where another commit is wanted now.

    Raises:
        WeightsError: If the file is damaged.
    """
    path = pin_path(name)
    entry = starting_entry(name)
    try:
        pin = Pin(**json.loads(path.read_text(encoding="utf-8")))
        if not is_revision(pin.revision) or not is_sha256(pin.sha256) or pin.name != name:
            raise ValueError("commit, digest or name is wrong")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check who may read it") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: is not a readable pin ({one_line(error)}); remove it and fetch {name} again"
        ) from error
    same = (pin.repo, pin.file) == (entry.repo, entry.file) and entry.revision in (None, pin.revision)
    return pin if same else None


def _record(entry: StartingEntry, fetched: Fetched, *, trusted: bool) -> str:
    """Write the user's pin; return where it is, or why it could not be written."""
    pin = Pin(
        name=entry.name,
        repo=entry.repo,
        file=entry.file,
        revision=fetched.revision,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        trusted=trusted,
    )
    path = pin_path(entry.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(asdict(pin), indent=2) + "\n", error=WeightsError)
    except OSError as error:
        return f"not recorded, since {path} cannot be written ({error.strerror})"
    except WeightsError as error:
        return f"not recorded, since {error}"
    return f"recorded in {path}"


def _write_table(name: str, fetched: Fetched) -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    for values in table["starting"]:
        if values["name"] == name:
            values |= {"revision": fetched.revision, "sha256": fetched.sha256, "bytes": fetched.bytes}
    write_file(TABLE, json.dumps(table, indent=2) + "\n", error=WeightsError, remedy="leave out --write-package")
    _read_table.cache_clear()


@lru_cache(maxsize=4)
def _read_table(path: Path) -> dict[str, StartingEntry]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r} instead of {_FORMAT}")
        entries = [_entry(values) for values in content["starting"]]
        if len({entry.name for entry in entries}) != len(entries):
            raise ValueError("a name stands twice")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: is not a readable table ({error}); reinstall iqametrics") from error
    return {entry.name: entry for entry in entries}


def _entry(values: dict[str, Any]) -> StartingEntry:
    entry = read_fields(StartingEntry, values, "entry", error=ValueError, top=True)
    checks = {
        "name": _NAME.fullmatch(entry.name) is not None,
        "kind": entry.kind in KINDS,
        "repo": is_repo(entry.repo),
        "file": is_file_name(entry.file),
        "revision": entry.revision is None or is_revision(entry.revision),
        "sha256": entry.sha256 is None or is_sha256(entry.sha256),
    }
    for field_name, good in checks.items():
        if not good:
            raise ValueError(f"{field_name} {getattr(entry, field_name)!r} of {entry.name!r} cannot be")
    return entry
