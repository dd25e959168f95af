"""What was measured of a checkpoint besides its own record, each fact with its source; no torch.

`facts.json` stands beside the manifest. A checkpoint is known by its SHA-256 there, so facts never outlive the file
that they were measured on.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from iqametrics.common.fields import read_fields
from iqametrics.errors import WeightsError

_FILE = "facts.json"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that is known, in words.

    Attributes:
        text: The fact.
        source: Who measured it, or the file or command that it is from.
    """

    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What was measured of a checkpoint.

    Attributes:
        checkpoint: Its name with the tag.
        sha256: Of its file.
        held_out: What its record's held-out figures are measured on, in words.
        parameters: Number of its parameters, those of the backbone included.
        good: What a good score is.
        outside: Agreement with people on pictures unlike those of training.
        blind: What its scores do not show, or show wrongly.
        speed: How long a picture takes.
    """

    checkpoint: str
    sha256: str
    held_out: str
    parameters: int
    good: tuple[Fact, ...] = ()
    outside: tuple[Fact, ...] = ()
    blind: tuple[Fact, ...] = ()
    speed: tuple[Fact, ...] = ()


def find_facts(sha256: str, folder: Path) -> CheckpointFacts | None:
    """Find what was measured of the checkpoint with this digest; None where nothing was.

    Args:
        sha256: Of the checkpoint's file.
        folder: Of the manifest.

    Raises:
        WeightsError: If the file of facts is damaged.
    """
    return _read(folder).get(sha256)


@lru_cache(maxsize=8)
def _read(folder: Path) -> dict[str, CheckpointFacts]:
    path = folder / _FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sources = content["sources"]
        read = [
            read_fields(CheckpointFacts, _resolved(values, sources), "facts", error=ValueError, top=True)
            for values in content["checkpoints"]
        ]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: is not a readable file of facts ({error}); reinstall iqametrics") from error
    return {facts.sha256: facts for facts in read}


def _resolved(values: dict, sources: dict[str, str]) -> dict:
    """Put a source in place of its name, which stands once in the file."""
    return {
        key: [{**fact, "source": sources[fact["source"]]} for fact in value] if isinstance(value, list) else value
        for key, value in values.items()
    }
