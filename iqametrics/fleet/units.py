"""A few dozen pictures that are scored together: what is sent to a worker, finished at once, and known again."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from iqametrics.fleet.places import Place

USUAL, MOST = 24, 64
"""Pictures of a unit on average and at most: much work beside what a unit costs (milliseconds), little to lose."""


@dataclass(frozen=True)
class Given:
    """A picture to be scored.

    Attributes:
        image: What it is called.
        place: Where its bytes are.
        reference: What its reference is called; None where there is none.
        reference_place: Where the bytes of that are.
        stamp: What tells its content from another under the same name: sizes and times of change.
    """

    image: str
    place: Place
    reference: str | None = None
    reference_place: Place | None = None
    stamp: object = None


@dataclass(frozen=True)
class Unit:
    """Pictures that are scored together.

    Attributes:
        source: Number of the source.
        number: Number of the unit in its source.
        last: Whether it is the last of its source.
        pictures: The pictures.
    """

    source: int
    number: int
    last: bool
    pictures: tuple[Given, ...]

    def digest(self, maker: str) -> bytes:
        """Return what the unit is known by: equal where pictures, their stamps and what scores them are equal.

        Args:
            maker: What scores them.
        """
        known = [maker, [list(vars(picture).values()) for picture in self.pictures]]
        return hashlib.blake2b(json.dumps(known).encode(), digest_size=16).digest()

    def dump(self) -> bytes:
        """Return the pictures as bytes; names that are no UTF-8 stay what they are."""
        return json.dumps([list(vars(picture).values())[:-1] for picture in self.pictures]).encode()


def load(content: bytes) -> list[Given]:
    """Return the pictures that `Unit.dump` wrote."""
    return [Given(*values) for values in json.loads(content)]


def cut(pictures: Iterable[Given]) -> Iterator[tuple[Given, ...]]:
    """Cut a sequence where names say so, not by number: a picture that is added changes only the unit it is in."""
    unit: list[Given] = []
    for picture in pictures:
        unit.append(picture)
        if len(unit) == MOST or zlib.crc32(picture.image.encode("utf-8", "surrogateescape")) % USUAL == 0:
            yield tuple(unit)
            unit = []
    if unit:
        yield tuple(unit)


def units(source: int, pictures: Iterable[Given]) -> Iterator[Unit]:
    """Cut the pictures of a source into its units; one without pictures has one unit without any."""
    waiting: tuple[Given, ...] = ()
    number = 0
    for pieces in cut(pictures):
        if waiting:
            yield Unit(source, number, False, waiting)
            number += 1
        waiting = pieces
    yield Unit(source, number, True, waiting)
