"""The folder of 200 photographs of mixed sizes that `speed.py --folder` is run on, and the metric alone on it.

    python benchmarks/speed_folder.py make LARGE SMALL OUT
    python benchmarks/speed_folder.py bare FOLDER METRIC

`make` makes the folder. LARGE and SMALL are folders of photographs. Of SMALL, 100 are copied as they are (first by
name). Those of LARGE are scaled down in turn to the long sides of `LONG_SIDES`, until there are 100 files, and written
as JPEG of quality 90. The same folders give the same files with the same Pillow.

`bare` reads and sizes all pictures, then calls the metric on one tensor after the other with torch's own number of
threads, and prints the seconds of that, by the clock and of the processor, as JSON, with those of the processor for
reading and sizing.
"""

import argparse
import json
import shutil
import time
from itertools import cycle, islice
from pathlib import Path

from PIL import Image

EACH = 100
LONG_SIDES = (640, 1024, 1600, 1920, 800, 1280, 3000)
SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Make the folder, or time the metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make")
    for name in ("large", "small", "out"):
        making.add_argument(name, type=Path)
    making.set_defaults(run=lambda args: make(args.large, args.small, args.out))
    bare = commands.add_parser("bare")
    bare.add_argument("folder", type=Path)
    bare.add_argument("metric")
    bare.set_defaults(run=lambda args: print(json.dumps(time_tensors(args.folder, args.metric))))
    args = parser.parse_args()
    args.run(args)


def make(large: Path, small: Path, out: Path) -> None:
    """Make the folder `out` of the photographs of two others."""
    out.mkdir(parents=True)
    for path in _photographs(small)[:EACH]:
        shutil.copy(path, out / f"small-{path.name}")
    sizes = islice(zip(cycle(_photographs(large)), cycle(LONG_SIDES), strict=False), EACH)
    for number, (path, side) in enumerate(sizes):
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            picture = image.convert("RGB")
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        picture.save(out / f"large-{number:03d}.jpg", quality=90)


def time_tensors(folder: Path, name: str) -> dict[str, float]:
    """Return the seconds of a metric on sized tensors in memory, and the processor's of reading and sizing them."""
    from iqametrics import create_metric, read_image

    metric = create_metric(name)
    start = time.process_time()
    images = [read_image(path)[None] for path in _photographs(folder)]
    read = time.process_time()
    tensors = [metric.sizing.apply(image) for image in images]
    sized = time.process_time()
    metric(tensors[0])
    wall, processor = time.perf_counter(), time.process_time()
    for tensor in tensors:
        metric(tensor)
    found = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    return found | {"read": read - start, "size": sized - read}


def _photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


if __name__ == "__main__":
    main()
