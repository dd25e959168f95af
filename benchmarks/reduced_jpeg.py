"""Measure what JPEGs decoded at a reduced size would cost in scores, and save in time.

    python benchmarks/reduced_jpeg.py FOLDER [--metrics bpclip-nr.lite pfd-iqa.lite] [--count 16]

libjpeg can decode at 1/2, 1/4 and 1/8 of the size by leaving out the high frequencies of each block, quicker
than decoding all and resizing. Each JPEG of FOLDER that is large enough is read both ways, brought to the size at
which the metric looks at the whole picture, and scored: at the smallest size that is at least once, and at least twice
as large as that. Processor time, one thread.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from iqametrics import create_metric, read_image


def main() -> None:
    """Print one line a metric and margin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metrics", nargs="+", default=["bpclip-nr.lite", "pfd-iqa.lite"])
    parser.add_argument("--count", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in args.folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    print("| metric | margin | JPEGs | greatest change | median change | read and size | reduced |")
    print("|---|---|---|---|---|---|---|")
    for name in args.metrics:
        metric = create_metric(name)
        for margin in (1, 2):
            changes, whole, reduced = [], [], []
            for path in paths:
                start = time.process_time()
                image = read_image(path)
                size = metric.sizing.fit(*image.shape[-2:])
                full = metric.sizing.apply(image[None])
                middle = time.process_time()
                small = read_reduced(path, size, margin)
                if small is None:
                    continue
                end = time.process_time()
                changes.append(abs(metric(full).item() - metric(small).item()))
                whole.append(middle - start)
                reduced.append(end - middle)
                if len(changes) == args.count:
                    break
            figures = f"{max(changes):.4f} | {statistics.median(changes):.4f}"
            times = f"{statistics.median(whole):.3f} s | {statistics.median(reduced):.3f} s"
            print(f"| {name} | {margin} | {len(changes)} | {figures} | {times} |")


def read_reduced(path: Path, size: tuple[int, int], margin: int) -> torch.Tensor | None:
    """Read a JPEG at the smallest size that is `margin` times `size` or more; None where that is its own size."""
    with Image.open(path) as image:
        if image.mode != "RGB" or not image.draft("RGB", (size[1] * margin, size[0] * margin)):
            return None
        if image.getexif().get(0x0112, 1) != 1 or image.decoderconfig[0] == 1:
            return None
        pixels = np.asarray(image)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(torch.float32)[None] / 255
    return F.interpolate(tensor, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


if __name__ == "__main__":
    main()
