"""Mutated pictures of every format that is read, and what may become of them.

A case is known by its seed and its number alone, so that a fault can be made again.
"""

import io
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

import torch
from attack_worker import LABEL, Fault, check_refusal
from cut_files import cut_files, encoded
from PIL import Image
from sweep import picture

from iqametrics import create_metric
from iqametrics.errors import InputError
from iqametrics.images import read_image

EXTREMES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]
CHECKSUMMED = {"PNG"}
"""Files of which every byte that pixels depend on is under a checksum: changed, they are refused or read as before."""

SCORED_EVERY = 20


def sources() -> dict[str, bytes]:
    """Name -> an intact file, one of each format and layout, and some of the size of a thumbnail."""
    files = cut_files()
    photo = Image.fromarray(picture(3, 255, 120, 160))
    files |= {
        "JPEG, 160x120": encoded(photo, "JPEG", quality=95, exif=Image.Exif()),
        "PNG, palette": encoded(photo.quantize(200), "PNG", transparency=3),
        "PNG, interlaced, gray and alpha": encoded(photo.convert("LA"), "PNG"),
        "WebP, 160x120": encoded(photo, "WEBP", quality=60),
        "TIFF, 160x120": encoded(photo, "TIFF", compression="tiff_lzw"),
        "JPEG 2000, lossy": encoded(photo, "JPEG2000", quality_layers=[20, 5], irreversible=True),
        "PGM": encoded(photo.convert("L"), "PPM"),
        "PBM": encoded(photo.convert("1"), "PPM"),
    }
    return files


class Mutated(NamedTuple):
    """One file.

    Attributes:
        name: Its source and what was done to it.
        number: Its number.
        source: Name of its source.
        data: The file.
        whole_or_refused: Whether other pixels than the source's are a fault.
    """

    name: str
    number: int
    source: str
    data: bytes
    whole_or_refused: bool


def flip(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def overwrite(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    at, count = rng.randrange(len(data)), rng.choice([1, 2, 4, 16, 64])
    fill = rng.choice([bytes(count), b"\xff" * count, rng.randbytes(count)])
    data[at : at + count] = fill[: len(data) - at]
    return data


def edit_header(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 4])):
        data[rng.randrange(min(len(data), rng.choice([32, 128, 512])))] = rng.choice(
            [0, 1, 0x7F, 0xFF, rng.randrange(256)]
        )
    return data


def huge(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    """Put an extreme number where one may stand, most often among the first bytes."""
    code = rng.choice(["<H", ">H", "<I", ">I", "<Q", ">Q"])
    size = struct.calcsize(code)
    end = min(len(data), rng.choice([64, 64, 256, len(data)])) - size
    if end > 0:
        struct.pack_into(code, data, rng.randrange(end), rng.choice(EXTREMES) & (256**size - 1))
    return data


def cut(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    return data[: rng.randrange(len(data))]


def splice(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    other = rng.choice(others)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def shuffle(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    """Remove, repeat or exchange pieces."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    kind = rng.randrange(3)
    if kind == 0:
        return data[:a] + data[b:]
    if kind == 1:
        return data[:b] + data[a:b] * rng.choice([1, 1, 3]) + data[b:]
    return data[b:] + data[a:b] + data[:a]


def insert(data: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.choice([1, 2, 3, 4, 100])) + data[at:]


MUTATIONS: dict[str, Callable[[bytearray, random.Random, list[bytes]], bytearray]] = {
    "bits flipped": flip,
    "bytes overwritten": overwrite,
    "header edited": edit_header,
    "extreme number": huge,
    "cut": cut,
    "spliced": splice,
    "pieces moved": shuffle,
    "bytes inserted": insert,
}


class Images:
    """The job of the worker: read one mutated picture."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.files = sources()
        self.whole = {name: read_image(data) for name, data in self.files.items()}
        self.metric = create_metric("bpclip-nr.lite")

    def prepare(self, number: int) -> Mutated:
        """Make the file of a number."""
        rng = random.Random(f"{self.seed} {number}")
        source = list(self.files)[number % len(self.files)]
        kinds = rng.choices(list(MUTATIONS), k=rng.choice([1, 1, 1, 2, 3]))
        data = bytearray(self.files[source])
        for kind in kinds:
            data = MUTATIONS[kind](data or bytearray(1), rng, list(self.files.values()))
        strict = kinds == ["cut"] or (source in CHECKSUMMED and kinds == ["bits flipped"])
        return Mutated(f"{source}: {', '.join(kinds)}", number, source, bytes(data), strict)

    def run(self, case: Mutated) -> str:
        """Read it and look at what comes out: "read" or "refused".

        Raises:
            Fault: If anything else than a sound picture or a refusal in one line comes out.
        """
        try:
            image = read_image(case.data, label=LABEL)
        except InputError as error:
            check_refusal(error)
            return "refused"
        self._check(image, case)
        if case.number % SCORED_EVERY == 0:
            score = self.metric(image)
            if not score.isfinite().all():
                raise Fault(f"its score is {score}")
        return "read"

    def _check(self, image: torch.Tensor, case: Mutated) -> None:
        if image.dtype != torch.float32 or image.ndim != 3 or len(image) != 3 or image.numel() == 0:
            raise Fault(f"it becomes {image.dtype} of shape {tuple(image.shape)}")
        if not image.isfinite().all() or image.min() < 0 or image.max() > 1:
            raise Fault("it has values outside [0, 1]")
        if case.whole_or_refused and not torch.equal(image, self.whole[case.source]):
            raise Fault("other pixels than those of the whole, and no word")
        if not torch.equal(image, read_image(io.BytesIO(case.data), label=LABEL)):
            raise Fault("read twice, it has other pixels")
