"""Frames of videos as images of `score`, and what all frames of one say together."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from iqametrics.errors import InputError
from iqametrics.images.video import FRAME_MARK, video_frames
from iqametrics.scoring import Item

if TYPE_CHECKING:
    from iqametrics.scoring import Row

WORST_SHARE = 0.05


def frame_items(path: str, every: float, reference: str | None, *, paired: bool) -> Iterator[Item]:
    """Give the frames of a video as items called `clip.mp4#t=3.000`, decoded as they are needed.

    Args:
        path: The video.
        every: Seconds between frames; 0 for all.
        reference: Reference of every frame.
        paired: Whether references are looked for by name, which frames do not have.

    Yields:
        Items; at the end one with an error where the rest cannot be decoded.
    """
    problem = f"{path}: frames of a video are not paired with references; give --ref, or a no-reference metric"
    try:
        for time, pixels in video_frames(path, every):
            name = f"{path}{FRAME_MARK}{time:.3f}"
            yield Item(name, reference, reference_error=problem if paired else None, content=pixels)
    except InputError as error:
        yield Item(path, error=str(error))


class VideoSummary:
    """Mean and worst frames of each video, by each metric.

    Args:
        higher_is_better: By the metrics' names.
    """

    def __init__(self, higher_is_better: Mapping[str, bool]) -> None:
        self.higher_is_better = higher_is_better
        self._scores: dict[tuple[str, str], list[tuple[float, str]]] = {}

    def watch(self, rows: "Iterable[Row]") -> "Iterator[Row]":
        """Pass rows on, and remember those of frames."""
        for row in rows:
            video, mark, time = row.image.rpartition(FRAME_MARK)
            if mark and row.score is not None:
                self._scores.setdefault((video, row.metric), []).append((row.score, time))
            yield row

    def lines(self) -> Iterator[str]:
        """Give a line for each video and metric: the mean, and the mean of the worst twentieth of its frames."""
        for (video, metric), scores in self._scores.items():
            ordered = sorted(scores, reverse=not self.higher_is_better[metric])
            worst = ordered[: math.ceil(WORST_SHARE * len(ordered))]
            frames = f"{len(worst)} frame{'' if len(worst) == 1 else 's'}"
            yield (
                f"{video}: {metric}: mean {_mean(ordered):.4f} of {len(ordered)} frames, worst 5% {_mean(worst):.4f} "
                f"({frames}, the worst at {ordered[0][1]} s: {ordered[0][0]:.4f})"
            )


def _mean(scores: list[tuple[float, str]]) -> float:
    return math.fsum(score for score, _ in scores) / len(scores)
