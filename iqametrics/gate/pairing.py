"""Which picture of one set goes with which of another: by name."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath


def pair_names(first: Iterable[str], second: Iterable[str]) -> dict[str, str]:
    """Pair paths of two runs over the same pictures.

    Equal paths are pairs, also where they are only spelled differently: `./a` and `a`, or an accent that is a character
    of its own in one of them (NFD, as macOS has written names) and not in the other (NFC). Where no two are equal, as
    for the outputs of two builds in two folders, paths are compared from the deepest folder that each run has in
    common; and what is left, as of two encoders, without the ends of the names.

    Args:
        first: Paths of the first run.
        second: Paths of the second run.

    Returns:
        For each path of `first` that has a partner, the partner.

    Examples:
        >>> pair_names(["old/a.png", "old/sub/b.png"], ["new/sub/b.png", "new/c.png", "new/a.png"])
        {'old/a.png': 'new/a.png', 'old/sub/b.png': 'new/sub/b.png'}
        >>> pair_names(["jpeg/a.jpg", "jpeg/b.jpg"], ["avif/a.avif", "avif/b.avif"])
        {'jpeg/a.jpg': 'avif/a.avif', 'jpeg/b.jpg': 'avif/b.avif'}
    """
    left, right = list(dict.fromkeys(first)), list(dict.fromkeys(second))
    known = set(right)
    same = {path: path for path in left if path in known}
    same |= _joined(
        {path: spelled(path) for path in left if path not in same},
        {path: spelled(path) for path in right if path not in same},
    )
    if same:
        return {path: same[path] for path in left if path in same}
    before, after = _tails(left), _tails(right)
    found = _joined(before, after)
    taken = set(found.values())
    found |= _joined(
        {path: os.path.splitext(tail)[0] for path, tail in before.items() if path not in found},
        {path: os.path.splitext(tail)[0] for path, tail in after.items() if path not in taken},
    )
    return {path: found[path] for path in left if path in found}


def spelled(path: str) -> str:
    """Bring a path to one spelling, so that paths to the same name are equal.

    >>> spelled("./a//e\u0301.png") == "a/\u00e9.png"
    True
    """
    return unicodedata.normalize("NFC", os.path.normpath(path))


def _joined(left: Mapping[str, str], right: Mapping[str, str]) -> dict[str, str]:
    """Pair paths that have the same key; a key that two paths of one side have is left out."""
    twice = {key for keys in (left, right) for key, count in Counter(keys.values()).items() if count > 1}
    by_key = {key: path for path, key in right.items() if key not in twice}
    return {path: by_key[key] for path, key in left.items() if key in by_key}


def _tails(paths: Iterable[str]) -> dict[str, str]:
    """Return the part of each path that follows the folder that all of them share."""
    whole = {path: PurePath(unicodedata.normalize("NFC", os.path.abspath(path))) for path in paths}
    if not whole:
        return {}
    common = os.path.commonpath([os.fspath(path.parent) for path in whole.values()])
    return {path: os.fspath(known.relative_to(common)) for path, known in whole.items()}
