"""Which picture of one set goes with which of another: by name."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath


def pair_names(first: Iterable[str], second: Iterable[str]) -> dict[str, str]:
    """Pair paths of two runs over the same pictures.

    Equal paths are pairs. Where no two are equal, as for the outputs of two builds in two folders, paths are compared
    from the deepest folder that each run has in common.

    Args:
        first: Paths of the first run.
        second: Paths of the second run.

    Returns:
        For each path of `first` that has a partner, the partner.

    Examples:
        >>> pair_names(["old/a.png", "old/sub/b.png"], ["new/sub/b.png", "new/c.png", "new/a.png"])
        {'old/a.png': 'new/a.png', 'old/sub/b.png': 'new/sub/b.png'}
    """
    left, right = list(dict.fromkeys(first)), set(second)
    same = {path: path for path in left if path in right}
    if same:
        return same
    by_tail = _tails(right)
    return {path: by_tail[tail] for tail, path in _tails(left).items() if tail in by_tail}


def _tails(paths: Iterable[str]) -> dict[PurePath, str]:
    """Paths by what follows the folder that all of them share; a tail that two of them have is left out."""
    whole = {path: PurePath(os.path.abspath(path)) for path in paths}
    if not whole:
        return {}
    common = os.path.commonpath([os.fspath(path.parent) for path in whole.values()])
    tails = {path: known.relative_to(common) for path, known in whole.items()}
    counts = Counter(tails.values())
    return {tail: path for path, tail in tails.items() if counts[tail] == 1}
