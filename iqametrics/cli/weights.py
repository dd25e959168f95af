"""`iqametrics weights`: the weight files that there are; to fetch, verify, pin, publish and remove them."""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqametrics.cli.common import EXIT_FAILED, EXIT_OK, UsageError, complain
from iqametrics.cli.output import FORMATS, open_rows
from iqametrics.cli.weights_publish import add_convert_parser, add_publish_parser
from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.weights import hub
from iqametrics.weights.manifest import WEIGHTS_FOLDER, CheckpointEntry, is_sha256, read_manifest
from iqametrics.weights.starting import (
    StartingEntry,
    UnpinnedWarning,
    hub_file,
    list_starting,
    pin_path,
    pin_starting,
    read_pin,
    starting_entry,
    starting_file,
)

LIST_COLUMNS = ("name", "what", "source", "state", "pinned", "mb", "licence", "repo", "revision", "sha256", "file")
_TABLE_COLUMNS = ("name", "what", "source", "state", "pinned", "mb", "licence")
VERIFY_COLUMNS = ("name", "state", "file")
BUNDLED, CACHED, NOT_FETCHED, MISSING = "bundled", "cached", "not fetched", "missing"
DAMAGED, UNREADABLE, BAD_RECORD = "damaged", "unreadable", "bad record"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A weight file that has a name.

    Attributes:
        name: Its name on the command line.
        what: "checkpoint", "base" or "starting".
        licence: Its terms; None for a base, whose terms are those of the checkpoints.
        sha256: Its digest; None where that is not known.
        bytes: Its size; None where that is not known.
        bundled: The file beside the manifest; None for one on the Hub.
        on_hub: The file on the Hub; None for a bundled one.
        entry: Its entry in the manifest or the table of starting weights.
        problem: Why its state cannot be told; None where it can.
    """

    name: str
    what: str
    licence: str | None
    sha256: str | None
    bytes: int | None
    bundled: Path | None
    on_hub: hub.HubFile | None
    entry: CheckpointEntry | StartingEntry | None
    problem: str | None = None

    def path(self) -> Path | None:
        """Return its path, not verified; None where it is not on this machine."""
        if self.problem is not None:
            return None
        if self.on_hub is not None:
            return hub.cached_path(self.on_hub)
        return self.bundled if self.bundled is not None and self.bundled.is_file() else None

    def state(self) -> str:
        """Say in a word whether it is on this machine."""
        if self.problem is not None:
            return BAD_RECORD
        here = self.path() is not None
        if self.on_hub is None:
            return BUNDLED if here else MISSING
        return CACHED if here else NOT_FETCHED


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "weights",
        help="list, fetch, verify and publish weight files",
        description="Weight files: those bundled with the package, and those on the Hub, which huggingface_hub caches.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    listing = _add(actions, "list", run_list, "list the weight files, their sizes and where they are from")
    _add_format(listing)
    fetching = _add(actions, "fetch", run_fetch, "fetch a file from the Hub into the cache, and verify it")
    fetching.add_argument("name", metavar="NAME", help=_NAME_HELP)
    fetching.add_argument("--force", action="store_true", help="fetch it anew even if it is cached")
    verifying = _add(actions, "verify", run_verify, "compute the SHA-256 of the files anew; exit with 1 on damage")
    verifying.add_argument("name", metavar="NAME", nargs="?", help=f"{_NAME_HELP}; without it, all that are here")
    _add_format(verifying)
    finding = _add(actions, "path", run_path, "print where a file is; it is not fetched")
    finding.add_argument("name", metavar="NAME", help=_NAME_HELP)
    cleaning = _add(actions, "clean", run_clean, "remove fetched files from the cache")
    cleaning.add_argument("name", metavar="NAME", nargs="?", help=f"{_NAME_HELP}; without it, all in the list")
    pinning = _add(actions, "pin", run_pin, "write down commit and SHA-256 of a starting weight that you trust")
    pinning.add_argument(
        "name", metavar="NAME", nargs="?", help="a starting weight, or hub:ORG/NAME[@BRANCH]; without it, all unpinned"
    )
    pinning.add_argument(
        "--write-package", action="store_true", help="write into the package's own table instead of HF_HOME"
    )
    add_publish_parser(actions)
    add_convert_parser(actions)


_NAME_HELP = "a name of `weights list`, or hub:ORG/NAME@REVISION[:FILE]"


def run_list(args: argparse.Namespace) -> int:
    """Run `weights list` and return its exit status."""
    is_table = args.format == "table"
    with open_rows(args.format, _TABLE_COLUMNS if is_table else LIST_COLUMNS) as writer:
        for item in _items():
            path = item.path()
            writer.write(
                {
                    "name": item.name,
                    "what": item.what,
                    "source": "bundled" if item.on_hub is None else "hub",
                    "state": item.state(),
                    "pinned": _pinned(item),
                    "mb": _megabytes(item, path, is_table),
                    # A long licence would push the other columns out of sight.
                    "licence": _short(item.licence) if is_table else item.licence,
                    "repo": item.on_hub.repo if item.on_hub else None,
                    "revision": item.on_hub.revision if item.on_hub else None,
                    "sha256": item.sha256,
                    "file": str(path) if path else None,
                }
            )
            if item.problem is not None:
                complain(f"note: {item.problem}")
    return EXIT_OK


def run_fetch(args: argparse.Namespace) -> int:
    """Run `weights fetch` and return its exit status."""
    item = _find(args.name)
    if item.on_hub is None:
        complain(f"{item.name} is bundled with the package; there is nothing to fetch")
        path = item.bundled
    elif item.what == "starting":
        path = _fetch_starting(item.name, args.force)
    elif isinstance(item.entry, CheckpointEntry):
        path = hub.fetch_checkpoint(item.entry, force=args.force)
    else:
        path = hub.fetch(item.on_hub, force=args.force).path
    print(path)
    return EXIT_OK


def run_verify(args: argparse.Namespace) -> int:
    """Run `weights verify` and return its exit status."""
    items = [_find(args.name)] if args.name else _items()
    damaged = []
    with open_rows(args.format, VERIFY_COLUMNS) as writer:
        for item in items:
            path = item.path()
            state = _check(item, path)
            if state in (DAMAGED, UNREADABLE, BAD_RECORD, MISSING) or (args.name and state == NOT_FETCHED):
                damaged.append(item)
            writer.write({"name": item.name, "state": state, "file": str(path) if path else None})
    for item in damaged:
        remedy = "reinstall iqametrics" if item.on_hub is None else f"`iqametrics weights fetch {item.name} --force`"
        complain(f"error: {item.problem or f'{item.name} is not here whole; {remedy}'}")
    return EXIT_FAILED if damaged else EXIT_OK


def run_path(args: argparse.Namespace) -> int:
    """Run `weights path` and return its exit status."""
    path = _found(_find(args.name))
    print(path)
    return EXIT_OK


def run_clean(args: argparse.Namespace) -> int:
    """Run `weights clean` and return its exit status."""
    item = _find(args.name) if args.name else None
    if item is not None and item.on_hub is None:
        raise UsageError(f"{item.name} is bundled with the package and cannot be removed")
    freed = 0
    for each in [item] if item else _items():
        path = each.path() if each.on_hub is not None else None
        if path is not None:
            size = hub.remove(path)
            freed += size
            complain(f"removed {each.name}, {size / 1e6:.1f} MB")
    print(f"freed {freed / 1e6:.1f} MB")
    return EXIT_OK


def run_pin(args: argparse.Namespace) -> int:
    """Run `weights pin` and return its exit status."""
    if args.name and args.name.startswith(hub.HUB):
        print(hub.pin_reference(args.name))
        return EXIT_OK
    if args.name and args.name not in list_starting():
        raise UsageError(f"{args.name} is no starting weight; known: {', '.join(list_starting())}")
    names = [args.name] if args.name else [name for name in list_starting() if not starting_entry(name).is_pinned]
    for name in names:
        before = starting_entry(name).is_pinned
        pin = pin_starting(name, write_package=args.write_package)
        where = "the package" if isinstance(pin, StartingEntry) else pin_path(name)
        complain(f"{name} {'is pinned already' if before else 'is now pinned'} in {where}")
        print(f"{name} {pin.revision} {pin.sha256}")
    return EXIT_OK


def _add(actions: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=help_text, description=help_text[0].upper() + help_text[1:] + "."
    )
    parser.set_defaults(run=run)
    return parser


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMATS, default="table", help="form of the output (default: table)")


def _items() -> list[WeightFile]:
    manifest = read_manifest(WEIGHTS_FOLDER)
    bases = [
        WeightFile(
            name=base.name,
            what="base",
            licence=None,
            sha256=base.sha256,
            bytes=None,
            bundled=WEIGHTS_FOLDER / base.file,
            on_hub=None,
            entry=None,
        )
        for base in manifest.bases
    ]
    return [*map(_checkpoint, manifest.checkpoints), *bases, *map(_starting, list_starting())]


def _checkpoint(entry: CheckpointEntry) -> WeightFile:
    bundled = entry.source == "bundled"
    return WeightFile(
        name=entry.full_name,
        what="checkpoint",
        licence=entry.licence,
        sha256=entry.sha256,
        bytes=entry.bytes,
        bundled=WEIGHTS_FOLDER / entry.file if bundled else None,
        on_hub=None if bundled else hub.entry_file(entry),
        entry=entry,
    )


def _starting(name: str) -> WeightFile:
    entry = starting_entry(name)
    problem = None
    try:
        file = hub_file(entry)
    except WeightsError as error:  # one bad record must not hide all other files
        file, problem = hub_file(entry, recorded=False), str(error)
    return WeightFile(
        name=name,
        what="starting",
        licence=entry.licence,
        sha256=file.sha256,
        bytes=entry.bytes,
        bundled=None,
        on_hub=file,
        entry=entry,
        problem=problem,
    )


def _find(name: str) -> WeightFile:
    """Return the item of a name, or of a reference to the Hub."""
    if name.startswith(hub.HUB):
        file = hub.parse_reference(name)
        return WeightFile(
            name=name, what="checkpoint", licence=None, sha256=None, bytes=None, bundled=None, on_hub=file, entry=None
        )
    items = {item.name: item for item in _items()}
    if name not in items:
        raise UsageError(f"unknown weight file {name!r}; known: {', '.join(items)}, or hub:ORG/NAME@REVISION")
    if items[name].problem is not None:
        raise WeightsError(items[name].problem)
    return items[name]


def _found(item: WeightFile) -> Path:
    path = item.path()
    if path is None:
        remedy = "reinstall iqametrics" if item.on_hub is None else f"run `iqametrics weights fetch {item.name}`"
        raise WeightsError(f"{item.name} is not here; {remedy}")
    return path


def _fetch_starting(name: str, force: bool) -> Path:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnpinnedWarning)
        path = starting_file(name, force=force)
    for warning in caught:
        complain(f"note: {warning.message}")
    return path


def _check(item: WeightFile, path: Path | None) -> str:
    if path is None:
        return item.state()
    known = item.sha256 or path.resolve().name
    if not is_sha256(known):
        return "not pinned"
    try:
        found = file_sha256(path, error=WeightsError)
    except WeightsError:
        return UNREADABLE
    if found != known:
        return DAMAGED
    return "ok" if item.sha256 else "ok, not pinned"


def _pinned(item: WeightFile) -> str:
    if item.on_hub is None or not isinstance(item.entry, StartingEntry) or item.entry.is_pinned:
        return "yes"
    pin = None if item.problem else read_pin(item.name)
    return "no" if pin is None else "by you" if pin.trusted else "recorded"


def _megabytes(item: WeightFile, path: Path | None, as_text: bool) -> float | str | None:
    size = item.bytes if item.bytes is not None else path.stat().st_size if path else None
    if size is None:
        return None
    return f"{size / 1e6:.1f}" if as_text else round(size / 1e6, 1)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= 40 else text[:37] + "..."
