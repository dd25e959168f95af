"""Splits of a dataset into training, validation and test part, such that results can be compared with published ones.

Every split is by group: images that belong together (the versions of one reference, the shots of one scene) stay in one
part. The test part is drawn first, before the rest is split into training and validation part. So it is the same for
6:2:2 and for 8:2, with a validation part and without one.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from iqametrics.datasets.sample import Sample
from iqametrics.datasets.splits import near_duplicate_groups, split_groups
from iqametrics.errors import DataError

GROUPINGS = ("auto", "reference", "image", "distortion", "near-duplicates")
PARTS = ("train", "validation", "test")
_PART_OF = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_FORMS = "all, official, official:PART or random:SEED:PART, PART being train, validation or test"


@dataclass(frozen=True)
class Shares:
    """Shares of the images in the three parts; they sum to one.

    Attributes:
        train: Share of the training part, above 0.
        validation: Share of the validation part, on which the epoch is chosen; may be 0.
        test: Share of the test part; may be 0.
    """

    train: float
    validation: float
    test: float

    def __post_init__(self) -> None:
        shares = (self.train, self.validation, self.test)
        if min(shares) < 0 or not self.train or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise DataError(f"shares {shares}: give three that sum to one, none negative, the first above 0")
        # A recipe's training share is computed, as 1 - 0.2 - 0.2: its rounding error must not move an image.
        for name, share in zip(PARTS, shares, strict=True):
            object.__setattr__(self, name, round(share, 12))


SIX_TWO_TWO = Shares(0.6, 0.2, 0.2)
"""BPCLIP's shares for full-reference data."""
EIGHT_TWO = Shares(0.72, 0.08, 0.2)
"""8:2, BPCLIP's shares for no-reference data and PFD-IQA's for all; the epoch is chosen on a tenth of the 8."""


@dataclass(frozen=True)
class Parts:
    """Indices of the samples of each part, ascending; no index is in two parts.

    Attributes:
        train: The training part.
        validation: The validation part, possibly empty.
        test: The test part, possibly empty.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def group_keys(samples: Sequence[Sample], by: str = "auto") -> list[str]:
    """Return the group of each sample; samples of one group stay on one side of a split.

    Files are distinguished by their name alone, in lower case: a split must not change when a dataset is moved,
    unpacked with another layout, or renamed by a file system (`I01.BMP`, `i01.bmp`). So references of one name in
    different folders count as one. Such a split may be coarser than necessary, but it never leaks; a group column can
    separate them.

    Args:
        samples: The images.
        by: Rule that forms the groups:

            - "reference": the sample's `group` if it has one, else its reference's name. A sample without a group whose
              reference has one elsewhere belongs to that.
            - "image": the image's name.
            - "distortion": the number of the type, else its name.
            - "near-duplicates": images that look alike, numbered in the order of `samples` (the bundled lite
              checkpoints were split by these numbers, so they stay as they are).
            - "auto": as "reference"; a sample with neither group nor reference is a group by its own name.

    Returns:
        The group of each sample.

    Raises:
        DataError: If `by` is unknown, a sample lacks what it asks for, or one reference is in two groups.
    """
    if by == "near-duplicates":
        return [str(number) for number in near_duplicate_groups([sample.image for sample in samples])]
    if by == "image":
        return [sample.image.name.casefold() for sample in samples]
    if by == "distortion":
        return [_distortion(sample) for sample in samples]
    if by not in GROUPINGS:
        raise DataError(f"split by {by!r}: there is no such grouping; use one of {', '.join(GROUPINGS)}")
    given = _groups_of_references(samples)
    keys = []
    for sample in samples:
        if sample.group is not None:
            keys.append(sample.group)
        elif sample.reference is not None:
            keys.append(given.get(str(sample.reference).casefold(), sample.reference.name.casefold()))
        elif by == "reference":
            raise DataError(
                f"{sample.image}: no reference and no group to split by; give one of them, or split by 'image' or "
                "'near-duplicates'"
            )
        else:
            keys.append(sample.image.name.casefold())
    return keys


def random_parts(samples: Sequence[Sample], *, seed: int, shares: Shares, by: str = "auto") -> Parts:
    """Split samples at random, in the same way on every machine and with every version of every library.

    Args:
        samples: The images; their order does not matter, except for near-duplicates.
        seed: Another seed gives another split.
        shares: Shares of the parts, which are met up to the size of one group.
        by: Rule that forms the groups, see `group_keys`.

    Returns:
        The parts; every sample is in exactly one.

    Raises:
        DataError: If `group_keys` raises it, or there are fewer groups than parts.
    """
    return _deal(group_keys(samples, by), seed, shares)


def repeated_parts(
    samples: Sequence[Sample], *, repeats: int = 10, seed: int = 0, shares: Shares, by: str = "auto"
) -> list[Parts]:
    """Return the papers' ten random splits: `random_parts` with the seeds `seed`, `seed` + 1, ...

    Raises:
        DataError: If `repeats` is below 1, or `random_parts` raises it.
    """
    if repeats < 1:
        raise DataError(f"repeats {repeats}: at least one split is needed")
    keys = group_keys(samples, by)
    return [_deal(keys, seed + repeat, shares) for repeat in range(repeats)]


def official_parts(samples: Sequence[Sample], *, validation: float = 0.1, seed: int = 0) -> Parts:
    """Return the official parts, those of the dataset's authors, from `Sample.split`.

    Samples that are in no official part (three of FLIVE's) are left out.

    Args:
        samples: The images.
        validation: Share of the official training part that is taken for validation, by group, if there is no official
            validation part; 0 for none.
        seed: Seed that decides which groups are taken.

    Returns:
        The parts; one that is not known (FLIVE's training part without its file) is empty.

    Raises:
        DataError: If no sample has an official part, a part's name is unknown, or the share is bad.
    """
    found: dict[str, list[int]] = {part: [] for part in PARTS}
    for index, sample in enumerate(samples):
        if sample.split is not None:
            found[_part(sample.split, f"{sample.image}: split")].append(index)
    if not any(found.values()):
        raise DataError("the dataset has no split of its own; use a random one (random:SEED:PART, split.by = 'auto')")
    train, held_out = found["train"], found["validation"]
    if train and not held_out and validation:
        if not 0 < validation < 1:
            raise DataError(f"validation {validation}: give a share of the training part, at least 0 and less than 1")
        keys = group_keys([samples[index] for index in train])
        kept, taken = _split(keys, [1 - validation, validation], seed)
        train, held_out = [train[i] for i in kept], [train[i] for i in taken]
    return Parts(tuple(train), tuple(held_out), tuple(found["test"]))


def select(
    samples: Sequence[Sample], text: str, *, mode: str | None = None, shares: Shares | None = None
) -> list[Sample]:
    """Return the images that a command line asks for.

    Args:
        samples: The dataset.
        text: One of "all"; "official", the official test part; "official:PART" (if there is no official validation
            part, "train" is all of the training part); "random:SEED:PART".
        mode: Mode of the metric; "fr" splits by reference, anything else splits samples without a reference by image.
        shares: Shares of the random split; None for 6:2:2 if all samples have a reference and for 8:2 otherwise, as in
            BPCLIP. The test part is the same for both.

    Returns:
        The chosen samples in their order, at least one.

    Raises:
        DataError: If the text has another form, the part is empty, or `random_parts` or `official_parts` raises it.
    """
    if text == "all":
        chosen: Sequence[int] = range(len(samples))
    else:
        kind, _, rest = text.partition(":")
        if kind == "official":
            part = _part(rest, f"split {text!r}") if ":" in text else "test"
            parts = official_parts(samples, validation=0)
        elif kind == "random" and rest.count(":") == 1:
            number, _, name = rest.partition(":")
            part = _part(name, f"split {text!r}")
            seed = _seed(number, text)
            if shares is None:
                shares = SIX_TWO_TWO if all(sample.reference for sample in samples) else EIGHT_TWO
            parts = random_parts(samples, seed=seed, shares=shares, by="reference" if mode == "fr" else "auto")
        else:
            raise DataError(f"split {text!r} is not one; use {_FORMS}")
        chosen = getattr(parts, part)
    if not chosen:
        raise DataError(f"split {text!r}: this part is empty; choose another")
    return [samples[index] for index in chosen]


def parts_digest(keys: Sequence[str], parts: Parts) -> str:
    """Return sixteen hex digits that identify a split: which groups, with how many images, are in which part.

    They depend neither on the order of the images nor on the dataset's folder.

    Args:
        keys: The group of each image, from `group_keys`.
        parts: The split.

    >>> parts_digest(["a", "a", "b"], Parts((0, 1), (), (2,)))
    'cbff07b2d5be3e21'
    """
    sides = [sorted(keys[index] for index in side) for side in (parts.train, parts.validation, parts.test)]
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest()[:16]


def _deal(keys: Sequence[str], seed: int, shares: Shares) -> Parts:
    rest, test = _split(keys, [1 - shares.test, shares.test], seed)
    left = shares.train + shares.validation
    train, validation = _split([keys[i] for i in rest], [shares.train / left, shares.validation / left], seed)
    return Parts(tuple(rest[i] for i in train), tuple(rest[i] for i in validation), tuple(test))


def _split(keys: Sequence[str], fractions: list[float], seed: int) -> tuple[list[int], list[int]]:
    """Split into two parts, of which the second is empty for a share of 0."""
    if not fractions[1]:
        return list(range(len(keys))), []
    if len(set(keys)) < 2:
        raise DataError(
            f"{len(keys)} images of {len(set(keys))} group cannot be split; give more groups, or tell them apart by a "
            "group column (files of one name in different folders count as one)"
        )
    first, second = split_groups(keys, fractions, seed)
    return first, second


def _groups_of_references(samples: Sequence[Sample]) -> dict[str, str]:
    """Return the group of each reference file that has one, by its path in lower case."""
    groups: dict[str, str] = {}
    for sample in samples:
        if sample.group is None or sample.reference is None:
            continue
        other = groups.setdefault(str(sample.reference).casefold(), sample.group)
        if other != sample.group:
            raise DataError(
                f"{sample.reference}: is in the groups {other!r} and {sample.group!r}, so a split could put it on "
                "both sides; give all its rows one group"
            )
    return groups


def _distortion(sample: Sample) -> str:
    key = sample.kind if sample.kind is not None else sample.distortion
    if key is None:
        raise DataError(f"{sample.image}: no distortion type to split by; fill in the column kind or distortion")
    return str(key)


def _part(name: str, where: str) -> str:
    part = _PART_OF.get(name.lower())
    if part is None:
        raise DataError(f"{where} names the part {name!r}; use train, validation or test")
    return part


def _seed(text: str, whole: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"split {whole!r}: the seed {text!r} is not a whole number; use {_FORMS}") from None
