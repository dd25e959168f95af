"""Splits that do not leak: images of one scene, burst or reference stay on one side.

A split is the same on every machine and with every version of every library: groups are ordered by a SHA-256 of the
seed and the group, not by a library's random numbers.
"""

import hashlib
import math
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from iqametrics.errors import DataError, ImageReadError

_SIDE = 16
_TIE = 1
"""Largest difference of neighbours on the thumbnail, in grey levels of 255, that counts as none, as in flat sky."""
_MIN_SIGNS = 64
DEFAULT_AGREEMENT = 0.55
"""Judged by eye on BIQ2021: nearly all pairs above 0.6 show one scene, and one in three at 0.5 to 0.55."""
_BLOCK = 512


def difference_hash(path: Path) -> npt.NDArray[np.int8]:
    """Compute 512 signs: whether the right and lower neighbours on a 17x17 thumbnail are brighter (1) or darker (-1).

    Scaling, recompression, blur and exposure hardly change them; rotation, mirroring and cropping do. Differences of at
    most one grey level give 0.

    Raises:
        ImageReadError: If the file cannot be read as an image.
    """
    try:
        with PilImage.open(path) as image:
            # Lets the JPEG decoder return down to an eighth of the size; does nothing for other formats.
            image.draft("L", (4 * _SIDE, 4 * _SIDE))
            grey = image.convert("L").resize((_SIDE + 1, _SIDE + 1), PilImage.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, PilImage.DecompressionBombError) as error:
        raise ImageReadError(f"{path}: not readable as an image ({error}); remove or repair it") from error
    pixels = np.asarray(grey, dtype=np.int16)
    steps = np.stack([pixels[:-1, 1:] - pixels[:-1, :-1], pixels[1:, :-1] - pixels[:-1, :-1]])
    return (np.sign(steps) * (np.abs(steps) > _TIE)).astype(np.int8).ravel()


def near_duplicate_groups(paths: Sequence[Path], agreement: float = DEFAULT_AGREEMENT) -> list[int]:
    """Number the groups of near-duplicates: images joined by a chain of pairs whose difference hashes agree.

    The agreement of two hashes is the cosine between them: signs that agree minus signs that contradict, over the
    geometric mean of the numbers of signs that are not 0 (at least 64). With no zeros it is 1 - 2 d / 512, where d is
    the Hamming distance.

    Args:
        paths: Files of the images.
        agreement: Smallest agreement of near-duplicates, above 0 and at most 1.

    Returns:
        The number of each image's group; groups count from 0 in the order of their first image.

    Raises:
        ImageReadError: If an image cannot be read.
        DataError: If `agreement` is outside (0, 1].
    """
    if not 0 < agreement <= 1:
        raise DataError(f"agreement {agreement}: give a number above 0 and at most 1, for instance {DEFAULT_AGREEMENT}")
    if not paths:
        return []
    hashes = np.stack([difference_hash(Path(path)) for path in paths])
    return _connected(len(paths), _close_pairs(hashes, agreement))


def _close_pairs(hashes: npt.NDArray[np.int8], agreement: float) -> npt.NDArray[np.int64]:
    """Return all pairs (i, j), i < j, of at least this agreement, (P, 2)."""
    size = np.abs(hashes).sum(axis=1, dtype=np.int64)
    unit = hashes / np.sqrt(np.maximum(size, _MIN_SIGNS, dtype=np.float32))[:, None].astype(np.float32)
    pairs = []
    # A matrix product in slices of rows is fast, and never has the whole table of pairs in memory.
    for start in range(0, len(unit), _BLOCK):
        rows, columns = np.nonzero(unit[start : start + _BLOCK] @ unit[start:].T >= agreement - 1e-6)
        keep = columns > rows
        pairs.append(np.stack([rows[keep], columns[keep]], axis=1) + start)
    return np.concatenate(pairs)


def _connected(count: int, pairs: npt.NDArray[np.int64]) -> list[int]:
    """Number the connected components by union-find, in the order of first appearance; return each item's number."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs.tolist():
        parent[root(second)] = root(first)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(item), len(numbers)) for item in range(count)]


def split_groups(groups: Sequence[Hashable], fractions: Sequence[float], seed: int) -> list[list[int]]:
    """Split indices into parts such that no group is in two parts.

    The groups, in an order that the seed decides, go to the first part that is not yet full, so that each part gets its
    fraction of the indices up to the size of one group.

    Args:
        groups: Group of each index, an int or str.
        fractions: Share of each part, positive; they sum to one.
        seed: Another seed gives another split.

    Returns:
        The indices of each part, ascending. Each index is in exactly one part.

    Raises:
        DataError: If fractions are not positive or do not sum to one, or there are fewer groups than parts.

    >>> split_groups(["a", "a", "b", "c"], [0.5, 0.5], seed=0)
    [[0, 1, 3], [2]]
    """
    if not fractions or min(fractions) <= 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise DataError(f"fractions {list(fractions)}: give positive shares that sum to one")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(str(group), []).append(index)
    if len(members) < len(fractions):
        raise DataError(f"{len(members)} groups cannot be split into {len(fractions)} parts; give more groups")
    order = sorted(members, key=lambda group: (hashlib.sha256(f"{seed}\0{group}".encode()).digest(), group))
    ends = (np.cumsum(fractions) * len(groups)).tolist()
    parts: list[list[int]] = [[] for _ in fractions]
    part, dealt = 0, 0
    for position, group in enumerate(order):
        size = len(members[group])
        # A part is full if the next group would overshoot its end by more than the part falls short without it, or if
        # only one group is left for each of the later parts.
        later = len(parts) - 1 - part
        full = dealt + size / 2 > ends[part] or len(order) - position == later
        if later and parts[part] and full:
            part += 1
        parts[part] += members[group]
        dealt += size
    return [sorted(indices) for indices in parts]
