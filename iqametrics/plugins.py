"""What other installed distributions add to this package, by entry points; no torch.

A distribution that cannot be imported, or declares something impossible, causes one warning and nothing else.
"""

import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TypeVar

Declared = TypeVar("Declared")


class PluginWarning(UserWarning):
    """An installed distribution that adds something to this package is left out, and why."""


def load_plugins(group: str, kind: type[Declared], attribute: str) -> Iterator[tuple[str, Declared]]:
    """Import what the installed distributions declare, in the order of their names.

    Args:
        group: Group of entry points, e.g. "iqametrics.metrics".
        kind: Class of what an entry point's value must name.
        attribute: Name of the attribute that holds it, for a value that names only a module.

    Yields:
        The distribution and entry point that declare an object, and the object.
    """
    for entry in sorted(entry_points(group=group), key=_origin):
        try:
            found = entry.load()
            if isinstance(found, ModuleType):
                found = getattr(found, attribute)
            if not isinstance(found, kind):
                raise TypeError(f"it is a {type(found).__name__}, not a {kind.__name__}")
        except (Exception, SystemExit) as error:  # whatever another's code does on import
            leave_out(_origin(entry), f"{entry.value} cannot be used ({_reason(error)})")
            continue
        yield _origin(entry), found


def leave_out(origin: str, reason: str) -> None:
    """Warn in one line that what a distribution declares is left out."""
    warnings.warn(PluginWarning(f"{origin} is left out: {reason}"), stacklevel=2)


def _origin(entry: EntryPoint) -> str:
    owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unnamed distribution"
    return f"{owner} ({entry.group}: {entry.name})"


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
