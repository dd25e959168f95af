"""Checks of arrays that all functions of this package share, so that bad data always gets the same message."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from iqametrics.errors import DataError

FloatArray = npt.NDArray[np.float64]

GREATEST = 1e150
"""Largest absolute value allowed: the squares of larger ones overflow, or nearly."""
MIN_IMAGES = 3
"""Smallest number of images allowed: two points always lie on a line."""


def numbers(values: npt.ArrayLike, name: str) -> FloatArray:
    """Turn one column of finite numbers into a float64 array.

    Args:
        values: A list, NumPy array or CPU tensor of shape (n,).
        name: Name of the column in error messages.

    Returns:
        Array of shape (n,), float64.

    Raises:
        DataError: If the column is not numeric or not one-dimensional, or holds NaN, infinity or a value beyond 1e150;
            the message names the index.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name}: not a column of numbers ({error}); give a list or an array (a tensor: .detach().float().cpu())"
        ) from error
    if array.ndim != 1:
        raise DataError(f"{name}: shape {array.shape} is not one column; flatten it to (n,)")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise DataError(
            f"{name}[{bad[0]}] is {array[bad[0]]} ({bad.size} of {array.size} are not finite); "
            "leave these images out or score them again"
        )
    huge = np.flatnonzero(np.abs(array) > GREATEST)
    if huge.size:
        raise DataError(f"{name}[{huge[0]}] is {array[huge[0]]}; bring the column to a scale under {GREATEST:g}")
    return array


def same_length(**columns: FloatArray) -> None:
    """Check that all columns have the same length, at least `MIN_IMAGES`.

    Raises:
        DataError: If they do not.
    """
    lengths = {name: array.size for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"columns of different length: {listed}; give one value for each image in each")
    name, length = next(iter(lengths.items()))
    if length < MIN_IMAGES:
        raise DataError(f"{name} has {length} values; at least {MIN_IMAGES} images are needed")


def score_columns(scores: npt.ArrayLike, mos: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check scores and opinion scores as a pair of columns.

    Returns:
        Both as float64 arrays of shape (n,), n >= 3.

    Raises:
        DataError: If a column is bad, see `numbers`, or the lengths are, see `same_length`.
    """
    x, y = numbers(scores, "scores"), numbers(mos, "mos")
    same_length(scores=x, mos=y)
    return x, y


def group_indices(groups: Sequence[Hashable] | npt.NDArray | None, n: int) -> npt.NDArray[np.intp]:
    """Number the groups 0, 1, ... in order of first appearance.

    Args:
        groups: One label for each image (text, integers, ...), or None if every image is its own group.
        n: Number of images.

    Returns:
        The number of each image's group, shape (n,).

    Raises:
        DataError: If the length is wrong, a label is missing (None or NaN), or there is only one group.
    """
    if groups is None:
        return np.arange(n)
    labels = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if len(labels) != n:
        raise DataError(f"groups has {len(labels)} labels for {n} images; give one label for each image")
    numbering: dict[Hashable, int] = {}
    for index, label in enumerate(labels):
        if label is None or label != label:  # NaN is the one value that differs from itself
            raise DataError(f"groups[{index}] is {label}; give every image a label, its own where it has no group")
        numbering.setdefault(label, len(numbering))
    if len(numbering) < 2:
        raise DataError(f"all {n} images are in group {labels[0]!r}; resampling needs two groups or more")
    return np.array([numbering[label] for label in labels], dtype=np.intp)


def is_constant(values: FloatArray) -> bool:
    """Return whether all values are equal, exactly or up to the rounding of float64 arithmetic."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())
