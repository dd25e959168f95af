"""Measure what the whole view and the native view see of damage to large photographs, and what they cost.

    python benchmarks/views.py PHOTOS... [--metric NAME ...] [--output benchmarks/results/views.json]

The middle 2048x1536 pixels of each photograph are scored as they are and in versions damaged at full size: JPEG of
quality 5, a Gaussian blur of 2 pixels, shrunk to a sixth and enlarged again. "seen" is the share of photographs whose
version scores at least 0.05 below the photograph, "drop" the mean difference. Of the native view, "plain" is the
unweighted mean of the tiles. The cost is that of the first photograph enlarged to 4000x3000, one thread, in a process
of its own: seconds of processor time, and the most memory beyond what the process had after the metric was made.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from PIL import Image, ImageFilter

from iqametrics import create_metric
from iqametrics.images import read_image
from iqametrics.spec import VIEWS, View
from iqametrics.training.environment import this_session

METRICS = ("bpclip-nr.lite", "pfd-iqa.lite")
SEEN = 0.05
LARGE = (4000, 3000)
MIDDLE = (2048, 1536)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--metric", action="append", default=[])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/views.json"))
    parser.add_argument("--cost-of", choices=VIEWS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    metrics = args.metric or list(METRICS)
    torch.set_num_threads(1)
    if args.cost_of:
        print(json.dumps(cost(args.photographs[0], metrics[0], args.cost_of)))
        return
    place = this_session([], {})
    found: dict[str, Any] = {
        "command": f"python benchmarks/views.py PHOTOS {' '.join(f'--metric {name}' for name in args.metric)}".strip(),
        **{name: place[name] for name in ("commit", "changed_since_commit", "hardware")},
        "photographs": [path.name for path in args.photographs],
        "metrics": {},
    }
    for name in metrics:
        rows = [row for path in args.photographs for row in score(name, path)]
        found["metrics"][name] = {"damage": summary(rows), "cost": costs(args.photographs[0], name)}
        print(json.dumps({name: found["metrics"][name]}, indent=1))
    args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def jpeg(photograph: Image.Image) -> Image.Image:
    """Encode as JPEG of quality 5."""
    stream = io.BytesIO()
    photograph.save(stream, "JPEG", quality=5)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def enlarged(photograph: Image.Image) -> Image.Image:
    """Shrink to a sixth and enlarge again."""
    small = photograph.resize((photograph.width // 6, photograph.height // 6), Image.Resampling.LANCZOS)
    return small.resize(photograph.size, Image.Resampling.BICUBIC)


DAMAGE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda photograph: photograph,
    "jpeg 5": jpeg,
    "blur 2": lambda photograph: photograph.filter(ImageFilter.GaussianBlur(2)),
    "enlarged 6": enlarged,
}


def score(name: str, path: Path) -> list[dict[str, Any]]:
    """Score the versions of a photograph in each view."""
    whole, native = create_metric(name), create_metric(name, view="native")
    with Image.open(path) as file:
        left, top = (file.width - MIDDLE[0]) // 2, (file.height - MIDDLE[1]) // 2
        photograph = file.convert("RGB").crop((left, top, left + MIDDLE[0], top + MIDDLE[1]))
    rows = []
    for damage, change in DAMAGE.items():
        picture = change(photograph)
        tiles = native.tile_scores(picture)
        views = {"fit": whole(picture).item(), "native": tiles.score.item(), "plain": tiles.scores.mean().item()}
        rows += [{"photograph": path.name, "damage": damage, "view": view, "score": views[view]} for view in views]
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the versions with the photographs, view by view."""
    scores = {(row["view"], row["damage"], row["photograph"]): row["score"] for row in rows}
    names = sorted({row["photograph"] for row in rows})
    told: dict[str, Any] = {}
    for view in ("fit", "native", "plain"):
        clean = [scores[view, "none", name] for name in names]
        told[view] = {"photographs": {"mean": round(mean(clean), 3), "least": round(min(clean), 3)}}
        for damage in list(DAMAGE)[1:]:
            drops = [scores[view, "none", name] - scores[view, damage, name] for name in names]
            told[view][damage] = {
                "drop": round(mean(drops), 3),
                "seen": round(mean(drop >= SEEN for drop in drops), 3),
            }
    return told


def costs(path: Path, name: str) -> dict[str, Any]:
    """Measure the cost of each view in a process of its own."""
    told = {}
    for view in VIEWS:
        command = [sys.executable, __file__, str(path), "--metric", name, "--cost-of", view]
        told[view] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return told


def cost(path: Path, name: str, view: View) -> dict[str, Any]:
    """Score a photograph of 4000x3000 once."""
    metric = create_metric(name, view=view)
    with Image.open(path) as file:
        picture = read_image(file.convert("RGB").resize(LARGE))
    metric(torch.rand(1, 3, 64, 64))
    # From here on, the most that the process takes is counted anew (Linux).
    Path("/proc/self/clear_refs").write_text("5")
    before, began = memory("VmRSS"), time.process_time()
    metric(picture)
    seconds = time.process_time() - began
    return {"size": "4000x3000", "seconds": round(seconds, 2), "megabytes": round(memory("VmHWM") - before)}


def memory(field: str) -> float:
    """Return a field of this process's status, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
