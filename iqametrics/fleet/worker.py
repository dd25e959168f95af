"""What scores a unit: one model of each metric, made at the first unit that is not finished yet."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace

from iqametrics.common.remote import is_remote
from iqametrics.fleet.places import Nothing, Piece, Whole
from iqametrics.fleet.tables import Rows
from iqametrics.fleet.units import Given, load
from iqametrics.pipeline import BatchScorer, Picture, Scored


class UnitScorer:
    """Scores units.

    Args:
        scorers: The metrics; rows come image by image, and within an image metric by metric.
        finished: By the digest of each unit that an earlier run finished, which of its pictures are tried again: those
            that had an error.
    """

    def __init__(self, scorers: Sequence[BatchScorer], finished: Mapping[bytes, Sequence[int]]) -> None:
        self.scorers, self.finished = scorers, finished
        self._rows = Rows()

    def score(self, digest: bytes, content: bytes) -> bytes | None:
        """Score a unit, or what is not finished of it.

        Args:
            digest: What it is known by.
            content: Its pictures, see `units.Unit.dump`.

        Returns:
            The rows, see `load_rows`; None where the unit is finished.
        """
        pictures = load(content)
        if digest in self.finished:
            pictures = [pictures[index] for index in self.finished[digest]]
            if not pictures:
                return None
        by_metric = [self._scored(scorer, pictures) for scorer in self.scorers]
        rows = [row for together in zip(*by_metric, strict=True) for row in together]
        return json.dumps([astuple(row) for row in rows]).encode()

    def score_one_by_one(self, digest: bytes, content: bytes, may_try: Callable[[bytes], bool]) -> bytes | None:
        """Score a unit one picture at a time, where the unit as a whole ended the processes that tried it.

        Args:
            digest: What it is known by.
            content: Its pictures.
            may_try: Is asked before each picture, by a key of its own; where it says no, an error is the picture's row.

        Returns:
            What `score` does.
        """
        pictures = load(content)
        rows = []
        for index in self.finished.get(digest, range(len(pictures))):
            picture = pictures[index]
            if not may_try(digest + index.to_bytes(4, "big")):
                died = f"{picture.image}: the process that scores it dies each time (of too little memory?)"
                picture = replace(picture, place=["error", f"{died}; look at it, or leave it out"])
            rows += [astuple(self._scored(scorer, [picture])[0]) for scorer in self.scorers]
        return json.dumps(rows).encode() if rows else None

    def _scored(self, scorer: BatchScorer, pictures: Sequence[Given]) -> list[Scored]:
        images, references = self._pictures(pictures, with_references=scorer.mode == "fr")
        rows = scorer(
            images,
            references,
            names=[picture.image for picture in pictures],
            reference_names=None if references is None else [_called(picture) for picture in pictures],
        )
        if references is None:
            return rows
        return [replace(row, reference=picture.reference) for row, picture in zip(rows, pictures, strict=True)]

    def _pictures(
        self, pictures: Sequence[Given], *, with_references: bool
    ) -> tuple[list[Picture], list[Picture] | None]:
        rows = self._from_tables(pictures, with_references)
        images = [_picture(picture.image, picture.place, rows) for picture in pictures]
        if not with_references:
            return images, None
        missing = "has no reference; give one in a column, beside it in the shard, or by --ref-dir"
        return images, [
            _picture(_called(picture), picture.reference_place or ["error", f"{picture.image}: {missing}"], rows)
            for picture in pictures
        ]

    def _from_tables(self, pictures: Sequence[Given], with_references: bool) -> dict[tuple[object, ...], Picture]:
        places = [picture.place for picture in pictures]
        if with_references:
            places += [picture.reference_place for picture in pictures if picture.reference_place]
        wanted: dict[tuple[str, int], tuple[set[int], set[str]]] = {}
        for place in places:
            if place[0] == "row":
                rows, columns = wanted.setdefault((place[1], place[2]), (set(), set()))
                rows.add(place[3])
                columns.add(place[4])
        return {
            (path, group, *key): picture
            for (path, group), (rows, columns) in wanted.items()
            for key, picture in self._rows.read(path, group, sorted(rows), sorted(columns)).items()
        }


def load_rows(content: bytes) -> list[Scored]:
    """Return the rows that `UnitScorer.score` wrote."""
    return [Scored(*values) for values in json.loads(content)]


def _called(picture: Given) -> str:
    return picture.reference or f"reference of {picture.image}"


def _picture(name: str, place: Sequence[object], rows: Mapping[tuple[object, ...], Picture]) -> Picture:
    kind, *rest = place
    if kind == "file":
        file = str(rest[0])
        return Whole(file) if is_remote(file) else file
    if kind == "piece":
        path, first, length = rest
        return Piece(str(path), int(first), int(length), name)  # type: ignore[call-overload]
    if kind == "row":
        return rows[tuple(rest)]
    return Nothing(str(rest[0]))
