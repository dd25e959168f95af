"""Frames of a video, at steps of time; needs PyAV, the extra [video]."""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iqametrics.errors import ImageReadError, InputError, MissingExtraError

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""Suffixes by which a video is known."""
FRAME_MARK = "#t="
"""Stands between the path of a video and the time of a frame, as browsers read it: `clip.mp4#t=3.000`."""
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}
"""Transfer functions (ITU-T H.273) whose pixels are no sRGB without tone mapping."""
_SHORT_BY = 1.0
"""Seconds by which a file may end before the end that it states."""
_BT601, _BT709 = 5, 1


def is_video(path: str) -> bool:
    """Tell whether a path is that of a video, by its suffix."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def video_frames(path: str | Path, every: float = 1.0) -> Iterator[tuple[float, npt.NDArray]]:
    """Decode a video and give a frame each so many seconds: the first one at or after 0, `every`, 2 `every`, ...

    Args:
        path: The video.
        every: The step in seconds; 0 for all frames.

    Yields:
        Time in seconds from the first frame, and the frame as RGB, (H, W, 3): uint8, or uint16 where the video has more
        than 8 bits. It is turned as the file says.

    Raises:
        MissingExtraError: If PyAV is not installed.
        InputError: If `every` is negative or not finite.
        ImageReadError: If the file has no picture, is damaged or of high dynamic range.
    """
    if not (math.isfinite(every) and every >= 0):
        raise InputError(f"every = {every:g} s: give a number of seconds from 0 up")
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            f'{path}: frames of a video need PyAV, which is not installed: pip install "iqametrics[video]"'
        ) from error
    if not Path(path).is_file():
        raise ImageReadError(f"{path}: does not exist or is no file; check the path")
    try:
        # Not a name alone: FFmpeg takes "concat:..." and the like for something to open.
        with Path(path).open("rb") as stream, av.open(stream, mode="r") as container:
            if not container.streams.video:
                raise ImageReadError(f"{path}: has no picture in it; give a video")
            yield from _sampled(container, str(path), every)
    except (av.error.FFmpegError, OSError) as error:
        raise ImageReadError(f"{path}: is damaged or no video that is read ({error.strerror}); repair it") from error


def _sampled(container: Any, path: str, every: float) -> Iterator[tuple[float, npt.NDArray]]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    begin: Fraction | None = None
    step, now = 0, 0.0
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        begin = frame.pts * frame.time_base if begin is None else begin
        now = float(frame.pts * frame.time_base - begin)
        # A millionth of a second: times are fractions, and steps in floating point need not hit them.
        if now + 1e-6 < step * every:
            continue
        step = math.floor((now + 1e-6) / every) + 1 if every else 0
        yield now, _pixels(frame, path)
    if begin is None:
        raise ImageReadError(f"{path}: has no frame in it; it may be cut off")
    if now + _SHORT_BY < _stated_end(container, stream):
        raise ImageReadError(f"{path}: ends after {now:.3f} s, before the end that it states; it is cut off")


def _stated_end(container: Any, stream: Any) -> float:
    """Give the length in seconds that the file states; 0 where it does not state that of its pictures."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    # The length of the file may be that of its sound.
    known = container.duration is not None and len(container.streams) == 1
    return container.duration / 1e6 if known else 0.0


def _pixels(frame: Any, path: str) -> npt.NDArray:
    """Convert a frame to RGB, upright."""
    transfer = _HIGH_DYNAMIC_RANGE.get(int(frame.color_trc))
    if transfer is not None:
        raise ImageReadError(f"{path}: is of high dynamic range ({transfer}); convert it to SDR (Rec. 709) first")
    deep = max(component.bits for component in frame.format.components) > 8
    matrix = int(frame.colorspace)
    if matrix not in (_BT601, 6, _BT709, 9):
        # What players do where a file does not say: standard definition is Rec. 601, more is Rec. 709.
        matrix = _BT601 if frame.height <= 576 else _BT709
    rgb = frame.to_ndarray(format="rgb48le" if deep else "rgb24", src_colorspace=matrix)
    turns = round(getattr(frame, "rotation", 0) / 90)
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns % 4 else rgb
