"""What a published record must not reveal: the paths of files, and who trained on which machine."""

import getpass
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from iqametrics.errors import WeightsError

_PATH = re.compile(
    r"(?<![\w./])(?:file:/+[^\s\"']+|/(?!/)[^\s/\"']+(?:/[^\s\"']*)+|(?<!:)//[^\s\"']+|~[\w.-]*/[^\s\"']+"
    r"|\.\./[^\s\"']+|[A-Za-z]:[\\/](?!/)[^\s\"']+|\\\\[^\s\"']+)"
)
# Names of users and machines that reveal nothing.
_COMMON_NAMES = {"root", "user", "admin", "ubuntu", "runner", "docker", "localhost", "home", "test", "data", "image"}
_SHORTEST_NAME = 4


def without_paths(value: Any) -> Any:
    """Reduce the paths in a record to file names.

    Paths that start from the working folder and stay in it are kept.
    """
    if isinstance(value, Mapping):
        return {without_paths(key): without_paths(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_paths(part) for part in value]
    if not isinstance(value, str):
        return value
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute():
        return _file_name(value)  # a whole path, which may have spaces in it
    return _PATH.sub(lambda found: _file_name(found[0]), value)


def _file_name(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def check_names(metadata: Mapping[str, Any], recipe: Mapping[str, Any], source: str | Path) -> None:
    """Refuse a record that contains the name of this user or machine.

    Licence and sources are not checked: the author wrote them, and they may name the author.

    Raises:
        WeightsError: If it contains one.
    """
    recorded = [recipe, *(metadata.get(key) for key in ("training", "config", "results"))]
    text = "\n".join(_strings(recorded)).lower()
    for name in sorted(_own_names()):
        if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text):
            raise WeightsError(
                f"{source}: its record holds {name!r}, the name of this user or machine; rename that file or setting"
            )


def _own_names() -> set[str]:
    host = socket.gethostname()
    names = {host, host.partition(".")[0], Path.home().name}
    with suppress(OSError, KeyError, ImportError):  # a process without an account has no name to hide
        names.add(getpass.getuser())
    return {name.lower() for name in names if len(name) >= _SHORTEST_NAME} - _COMMON_NAMES


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key)
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, str):
        yield value
