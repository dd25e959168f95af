"""Which pictures a tar shard holds, and where in it: the headers are read, the pictures are not."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from iqametrics.errors import InputError
from iqametrics.fleet.places import open_place
from iqametrics.images import IMAGE_SUFFIXES

REFERENCE = ".ref"


@dataclass(frozen=True)
class Member:
    """A picture of a tar shard.

    Attributes:
        name: Its name in the shard.
        first: Where its bytes begin.
        length: How many there are.
        reference: The member that is its reference: `key.ref.png` of `key.jpg`; None where there is none.
        problem: Why it is no picture; empty where it is one. A shard that is damaged ends with such a member.
    """

    name: str
    first: int = 0
    length: int = 0
    reference: "Member | None" = None
    problem: str = ""


def members(path: str) -> Iterator[Member]:
    """Find the pictures of a shard in their order.

    As in webdataset, the files of one key stand one after the other. Members that are no pictures (labels, captions)
    are passed over.

    Args:
        path: The shard: tar without compression.

    Yields:
        Pictures with their references.
    """
    key: str | None = None
    group: list[Member] = []
    problem = ""
    try:
        with open_place(path) as stream, tarfile.open(fileobj=stream, mode="r:") as shard:
            for info in shard:
                # Else the headers of all members stay in memory.
                shard.members = []  # type: ignore[attr-defined]
                if not info.isfile() or os.path.splitext(info.name)[1].lower() not in IMAGE_SUFFIXES:
                    continue
                member = Member(info.name, info.offset_data, info.size)
                if _key(info.name) != key:
                    yield from _paired(group)
                    key, group = _key(info.name), []
                group.append(member)
            stream.seek(shard.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                problem = f"{path}: ends without the mark of its end, so there may have been more; make it anew"
    except tarfile.TarError as error:
        problem = f"{path}: is no whole tar file ({error}); make it anew; a shard is a tar file without compression"
    except InputError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{path}: cannot be read ({error.strerror or error}); check the disk or the network"
    yield from _paired(group)
    if problem:
        yield Member("", problem=problem)


def _key(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _is_reference(name: str) -> bool:
    return os.path.splitext(name)[0].lower().endswith(REFERENCE)


def _paired(group: list[Member]) -> Iterator[Member]:
    """Give the pictures of one key their reference."""
    references = [member for member in group if _is_reference(member.name)]
    for member in group:
        if not _is_reference(member.name):
            yield Member(member.name, member.first, member.length, references[0] if len(references) == 1 else None)
