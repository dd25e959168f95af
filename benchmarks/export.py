"""Export metrics and write down size, time and error of each file.

    python benchmarks/export.py bpclip-nr.lite bpclip-fr.lite pfd-iqa.lite [--formats onnx pt2] [--untrained bpclip-nr]

Each metric is exported for pictures of any size, and compared with its file as the command
`iqametrics export` does. `--untrained` adds architectures of the paper's size with random weights. A metric that cannot
be exported stands in the results with the reason. `--output` is written after each file and keeps the others in it.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from iqametrics import IqaError, create_metric
from iqametrics.common.files import write_file
from iqametrics.errors import DataError
from iqametrics.exporting.export import export_metric
from iqametrics.metric import Metric
from iqametrics.training.environment import this_session

RESULTS = Path(__file__).resolve().parent / "results" / "export.json"


def main() -> None:
    """Export what the command line names and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="metrics with their checkpoints")
    parser.add_argument("--untrained", nargs="*", default=[], metavar="NAME", help="architectures of the paper's size")
    parser.add_argument("--formats", nargs="+", choices=("onnx", "pt2"), default=["onnx"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {}
    wanted: list[tuple[str, str | None]] = [(name, "default") for name in args.names]
    for name, weights in [*wanted, *((name, None) for name in args.untrained)]:
        for kind in args.formats:
            metric = create_metric(name, weights=weights)
            results[f"{metric.full_name} {kind}"] = {**measure(metric, kind), **this_session([], {})}
            write_file(args.output, json.dumps(results, indent=2, sort_keys=True) + "\n", error=DataError)


def measure(metric: Metric, kind: str) -> dict[str, Any]:
    """Export a metric; give the figures, or the reason why there are none."""
    start, processor = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = export_metric(metric, Path(folder) / f"file.{kind}", format=kind)
        except IqaError as error:
            return {"error": str(error)}
    return {
        "megabytes": round(done.bytes / 1e6, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "largest_difference": done.proof.largest,
        "cases": done.proof.cases,
        "differences": done.proof.errors,
        "runtime": done.proof.runtime,
    }


if __name__ == "__main__":
    main()
