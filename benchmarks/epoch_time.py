"""Measure how long the images of an epoch take, decoded for each crop and from the cache of pictures.

    python benchmarks/epoch_time.py FOLDER [--images 1000] [--repeats 2] [--every 1]
        [--output benchmarks/results/epoch_time.json]

FOLDER gets a made set like KonIQ-10k: JPEG files of 1024x768, and for the time of the run their pictures. The epochs
are those of the paper's recipes for KonIQ-10k: the training part's crops and the validation part, made ready for the
device, without the network's step. Both ways take turns, and the smallest of the repeats counts. "decoded" has two
threads, as every run had before there was a cache, "cached" has one a processor. Beside the seconds on the clock stand
those of the processors, which depend little on what else the machine does; the load says whether it did. With
`--every N` only one step in N is taken, and the time of the training part's crops is multiplied by N.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from iqametrics.metric import Sizing
from iqametrics.training.batches import Batches, CropSource, ImageFiles
from iqametrics.training.data import RunData, epoch_steps, load_data, portions
from iqametrics.training.environment import this_session
from iqametrics.training.pictures import PictureCache, StoredPictures
from iqametrics.training.recipe import Recipe, read_recipe

RECIPES = ("paper/bpclip-nr/koniq10k", "paper/pfd-iqa/koniq10k")
KONIQ = 10_073
SIZE = (768, 1024)
THREADS_BEFORE = 2


class Taken(NamedTuple):
    """Seconds of a call: on the clock, and of all threads on the processors."""

    clock: float
    processor: float


def main() -> None:
    """Make the set, measure, print and write the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the made set")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="take one step in so many (default: 1)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/epoch_time.json"))
    args = parser.parse_args()
    table = make_set(args.folder, args.images)
    session = {key: value for key, value in this_session([], {}).items() if key != "inputs"}
    session["command"] = [Path(part).name for part in session["command"]]  # no folders of this machine
    measured: dict[str, Any] = {**session, "images": args.images, "size": "1024x768 JPEG"}
    measured["load_before"] = round(os.getloadavg()[0], 1)
    measured["recipes"] = {name: measure(name, table, args.repeats, args.every) for name in RECIPES}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))


def make_set(folder: Path, count: int) -> Path:
    """Write images with structure at all scales, and a CSV with scores; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "scores.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "mos"])
        for number in range(count):
            path = folder / f"{number:05d}.jpg"
            if not path.exists():
                Image.fromarray(picture(np.random.default_rng(number))).save(path, quality=92)
            writer.writerow([path.name, f"{(number * 7919 % count) / count:.4f}"])
    return table


def picture(rng: np.random.Generator) -> np.ndarray:
    """Draw noise whose strength falls with its frequency, as in photographs: (H, W, 3) in 8 bits."""
    height, width = SIZE
    values = np.zeros((height, width, 3))
    for cell in (256, 64, 16, 4, 1):
        coarse = rng.uniform(0, 255, (height // cell, width // cell, 3)).astype(np.uint8)
        grown = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        values += np.asarray(grown, np.float64) * (cell + 4) / 360
    return np.clip(values, 0, 255).astype(np.uint8)


def measure(name: str, table: Path, repeats: int, every: int) -> dict[str, Any]:
    """Measure an epoch of a recipe in each way, by turns."""
    recipe = read_recipe(name, ["split.by='image'"], {"csv": str(table)})
    data = load_data(recipe)
    sizing = Sizing(recipe.min_side, recipe.sizing.max_side or None, recipe.sizing.short_side or None)
    with tempfile.TemporaryDirectory(dir=table.parent) as folder:
        cache = PictureCache(Path(folder), sizing, gigabytes=recipe.cache.images_gb)
        paths = [item.sample.image for item in (*data.train, *data.validation)]
        filled = taken(lambda: cache.build(paths, recipe.train.threads))
        stored = (cache.folder / "pixels.bin").stat().st_size
        crop = recipe.train.crop
        ways: dict[str, Callable[[], Taken]] = {
            "decoded": partial(epoch, recipe, data, ImageFiles(sizing, crop=crop), THREADS_BEFORE, every),
            "cached": partial(epoch, recipe, data, StoredPictures(cache, crop=crop), recipe.train.threads, every),
        }
        times: dict[str, list[Taken]] = {way: [] for way in ways}
        for _ in range(repeats):
            for way, run in ways.items():
                times[way].append(run())
    return {
        "crops": len(data.train) * recipe.train.views,
        "one_step_in": every,
        "crop": crop,
        "short_side": recipe.sizing.short_side,
        "validation": len(data.validation),
        "threads": recipe.train.threads,
        "to_fill_the_cache": least([filled]),
        "cache_gb": round(stored / 1e9, 3),
        "cache_gb_of_koniq": round(stored / len(paths) * KONIQ / 1e9, 1),
        "an_epoch": {way: least(found) for way, found in times.items()},
    }


def epoch(recipe: Recipe, data: RunData, source: CropSource, threads: int, every: int) -> Taken:
    """Make the batches of an epoch and of its validation ready; return their time, that of an epoch drawn out."""
    batches = Batches(source, workers=threads, with_reference=False, together=recipe.train.crops_together)
    steps = epoch_steps(data.train, recipe.train, 0)
    shares = [share for views in steps for share in portions(views, accumulate=1, processes=1, rank=0)]
    crops = taken(lambda: deque(batches.training(data.train, shares[::every]), maxlen=0))
    whole = taken(lambda: deque(batches.whole(data.validation, recipe.train.eval_batch_size), maxlen=0))
    drawn_out = len(shares) / len(shares[::every])
    return Taken(drawn_out * crops.clock + whole.clock, drawn_out * crops.processor + whole.processor)


def taken(run: Callable[[], Any]) -> Taken:
    """Measure a call."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return Taken(time.perf_counter() - clock, time.process_time() - processor)


def least(found: list[Taken]) -> dict[str, float]:
    """Return the smallest of each kind of seconds."""
    return {
        "seconds": round(min(entry.clock for entry in found), 1),
        "processor_seconds": round(min(entry.processor for entry in found), 1),
    }


if __name__ == "__main__":
    main()
