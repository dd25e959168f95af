"""Options in a file: `iqametrics.toml`, or `[tool.iqametrics]` of `pyproject.toml`.

    [score]                          # in pyproject.toml: [tool.iqametrics.score]
    metric = ["bpclip-fr", "pfd-iqa"]
    fail-below = { bpclip-fr = 0.8, pfd-iqa = 0.5 }
    strict = true

A key is the name of an option. The command line overrides the file, and relative paths start from the file's folder.
The file is that of `--config`, else the first of the two found in the working folder or a folder above it.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iqametrics.cli.common import UsageError, complain
from iqametrics.common.files import read_text
from iqametrics.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN, PROJECT = "iqametrics.toml", "pyproject.toml"
COMMANDS = ("score", "compare")
"""Commands whose options the file may set."""
_EXCLUSIVE = ({"ref", "ref-dir"},)
_ONE_EACH_RUN = {"help", "config", "output"}
_PATHS = {"ref", "ref-dir", "baseline", "html", "append-to"}


def with_settings(argv: Sequence[str]) -> list[str]:
    """Put the options of the file before those of the command line.

    Args:
        argv: The arguments, the command first.

    Raises:
        UsageError: If the file cannot be read, or sets what is no option or no value of one.
    """
    if not argv or argv[0] not in COMMANDS or {"--help", "-h"} & set(argv):
        return list(argv)
    command, *rest = argv
    given = _given(rest)
    path, tables = _tables(_value_of("config", rest))
    table = tables.get(command, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"{path}: {command} should be a table; write [{command}]")
    options: list[str] = []
    for name, value in table.items():
        if name in _ONE_EACH_RUN:
            raise UsageError(f"{path}: [{command}] {name} cannot stand in a file; give it on the command line")
        if name in _PATHS and isinstance(value, str):
            value = str(path.parent / value)
        words = _as_options(f"{path}: [{command}]", name, value)
        options += [] if name in given else words
    if options and "quiet" not in given and table.get("quiet") is not True:
        complain(f"note: options of {path}: {' '.join(options)}")
    return [command, *options, *rest]


def _given(rest: Sequence[str]) -> set[str]:
    """Return the names of the options on the command line, and of those that exclude them."""
    names = {word[2:].partition("=")[0] for word in rest if word.startswith("--")}
    return names.union(*(group for group in _EXCLUSIVE if group & names))


def _value_of(name: str, rest: Sequence[str]) -> str | None:
    for position, word in enumerate(rest):
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
        if word == f"--{name}" and position + 1 < len(rest):
            return rest[position + 1]
    return None


def _tables(config: str | None) -> tuple[Path, Mapping[str, Any]]:
    if config is not None:
        path = Path(config)
        return path, _settings_of(path, _read(path)) or {}
    here = Path.cwd()
    for folder in (here, *here.parents):
        for name in (OWN, PROJECT):
            path = folder / name
            if os.path.isfile(path) and (found := _settings_of(path, _read(path))) is not None:
                return path, found
    return here, {}


def _settings_of(path: Path, tables: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the tables of this program; None where a pyproject.toml has none."""
    if path.name == PROJECT:
        tables = tables.get("tool", {}).get("iqametrics")
        if tables is None:
            return None
    if not isinstance(tables, Mapping):
        raise UsageError(f"{path}: tool.iqametrics should be a table; write [tool.iqametrics.score]")
    if unknown := sorted(set(tables) - set(COMMANDS)):
        raise UsageError(f"{path}: unknown table [{unknown[0]}]; known are {', '.join(COMMANDS)}")
    return tables


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(read_text(path, error=DataError))
    except DataError as error:
        raise UsageError(f"{error}; or name another file with --config") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); correct it, or name another file with --config") from error


def _as_options(where: str, name: str, value: Any) -> list[str]:
    """Turn one setting into words of a command line."""
    if value is True or value is False:
        return [f"--{name}"] if value else []
    if isinstance(value, Mapping):
        return [word for key, item in value.items() for word in _as_options(where, name, f"{key}={_plain(item)}")]
    if isinstance(value, list):
        return [word for item in value for word in _as_options(where, name, item)]
    if isinstance(value, str | int | float):
        return [f"--{name}={_plain(value)}"]
    raise UsageError(f"{where} {name} = {value!r} is no value of an option; give a string, a number or a list")


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
