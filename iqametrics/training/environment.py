"""Where and when a run was trained: one record for each session, from the first to the last `--resume`."""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from iqametrics.common.digest import file_sha256
from iqametrics.common.files import read_text
from iqametrics.errors import TrainingError, WeightsError
from iqametrics.training.resume import write_run_file

_FILE = "environment.json"


def this_session(inputs: Sequence[str], digests: Mapping[str, str], *, processes: int = 1) -> dict[str, Any]:
    """Describe what runs here and now.

    Args:
        inputs: Files that the run is made from; the record has their digests.
        digests: Digests of all else that it is made from, by name.
        processes: Number of processes that train together.
    """
    commit = _git("rev-parse", "HEAD")
    return {
        "command": sys.argv,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "changed_since_commit": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("iqametrics", "torch", "numpy", "scipy", "Pillow")},
        "hardware": {
            "machine": platform.machine(),
            "system": platform.system(),
            "cpus": os.cpu_count(),
            "processes": processes,
            "torch_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "inputs": _digests(inputs) | dict(digests),
    }


def earlier_sessions(folder: Path) -> list[dict[str, Any]]:
    """Read the sessions of the run in a folder, in order; an empty list if there is no record."""
    path = folder / _FILE
    if not path.exists():
        return []
    try:
        content = json.loads(read_text(path, error=TrainingError))
        # In older runs the file is the record of one session.
        sessions = list(content["sessions"]) if "sessions" in content else [content]
        if not (sessions and all(isinstance(session.get("inputs"), dict) for session in sessions)):
            raise ValueError("it tells of no input files")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TrainingError(
            f"{path}: is damaged ({error}), so nobody knows what the run was begun with; start anew in another --output"
        ) from error
    return sessions


def write_sessions(folder: Path, sessions: Sequence[dict[str, Any]]) -> None:
    """Write the record of all sessions.

    Raises:
        TrainingError: If it cannot be written.
    """
    write_run_file(folder / _FILE, json.dumps({"sessions": list(sessions)}, indent=1))


def check_inputs(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Make sure that a resumed run finds the data and starting weights that it was begun with.

    Raises:
        TrainingError: If a file has another digest.
    """
    known = before["inputs"]
    changed = sorted(name for name, digest in now["inputs"].items() if known.get(name) != digest)
    if changed:
        raise TrainingError(
            f"{folder}: {', '.join(changed)} changed since the run began; start anew in another --output"
        )


def checkpoint_record(sessions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a checkpoint records of the sessions: the first one, and commit, date and hardware of later ones."""
    first, *later = sessions
    place = ("commit", "changed_since_commit", "date", "hardware")
    # An older record does not say whether the source tree was changed.
    record = {name: first.get(name) for name in ("inputs", *place)}
    return record | {"resumed": [{name: session.get(name) for name in place} for session in later]}


def _digests(files: Sequence[str]) -> dict[str, str]:
    """Compute the SHA-256 of files, by their names; the record has no folders, which are private."""
    digests: dict[str, str] = {}
    for file in files:
        name = Path(file).name
        key = name if name not in digests else f"{name} ({len(digests) + 1})"
        digests[key] = file_sha256(file, error=WeightsError)
    return digests


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "source tree"


def _git(*arguments: str) -> str | None:
    """Ask git about the source tree; None where the package does not run from one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
