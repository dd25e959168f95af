"""`iqametrics benchmark cost`: parameters, operations, time and memory of metrics on this machine."""

import argparse
import json
import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from iqametrics.baselines import PACKAGES, is_baseline, is_installed
from iqametrics.benchmark.cost import DEFAULT_SIZE, REPEATS, measure, parse_size
from iqametrics.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    check_metric_name,
    complain,
    positive,
)
from iqametrics.cli.output import FORMATS, open_rows
from iqametrics.common.devices import AUTO, DEVICES
from iqametrics.common.files import write_file
from iqametrics.errors import InputError, IqaError
from iqametrics.registry import checkpoint_tags, list_metrics

COLUMNS = ("metric", "size", "looked_at", "parameters", "gflops", "seconds", "memory_mb", "weights_mb", "uncounted")
BASELINES = ("piq/psnr", "piq/ssim", "piq/fsim", "piq/vsi")
"""Metrics of piq that are measured beside ours where no metric is named."""
_EPILOG = """\
gflops counts matrix products, convolutions and attention only; `uncounted` names other operations that put out most,
such as Fourier transforms. memory is what calls take beyond weights and libraries. Time depends on what else runs."""


def add_cost_parser(parts: Any) -> None:
    """Add the command below `iqametrics benchmark`.

    Args:
        parts: The subparsers of that command.
    """
    parser = parts.add_parser(
        "cost",
        help="measure what metrics cost on this machine",
        description="Measure parameters, FLOPs, time and memory of one image or pair, a new process for each metric. "
        "Without --metric and --untrained: all of ours at the paper's size and with each checkpoint, and four of piq.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--metric", action="append", default=[], metavar=METRIC, help=f"{METRIC_HELP}; may be repeated")
    parser.add_argument(
        "--untrained",
        action="append",
        default=[],
        metavar="NAME",
        help="metric at the paper's size with random weights, on which cost does not depend; may be repeated",
    )
    parser.add_argument(
        "--size",
        action="append",
        type=_size,
        metavar="HxW",
        help=f"height and width; may be repeated (default: {DEFAULT_SIZE[0]}x{DEFAULT_SIZE[1]})",
    )
    parser.add_argument("--device", choices=DEVICES, default=AUTO, help="where to compute")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of torch (default: its own choice)")
    parser.add_argument("--repeats", type=positive, default=REPEATS, metavar="N", help=f"timed calls ({REPEATS})")
    parser.add_argument("--format", choices=FORMATS, default="table", help="form of the output (default: table)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write all figures there, as JSON, with the machine"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    jobs = _jobs(args)
    if args.output is not None and (os.path.isdir(args.output) or not os.path.isdir(args.output.parent)):
        raise UsageError(f"--output {args.output} is a folder or lies in one that does not exist; give a file")
    # Before the first measurement, so that the machine's load is not our own.
    circumstances = {} if args.output is None else _circumstances()
    rows, failed = [], False
    with open_rows(args.format, COLUMNS) as writer:
        for name, untrained, size in jobs:
            try:
                row = measure(
                    name,
                    size=size,
                    untrained=untrained,
                    device=args.device,
                    threads=args.threads,
                    repeats=args.repeats,
                )
            except IqaError as error:
                failed = True
                complain(str(error))
                continue
            rows.append(row)
            writer.write(_shown(row))
            if args.output is not None:
                # After each, so that an interrupted run keeps what was measured.
                _write(args.output, {**circumstances, "rows": rows})
    return EXIT_FAILED if failed else EXIT_OK


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_file(path, text, error=InputError, remedy="give another --output")


def _size(text: str) -> tuple[int, int]:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, e.g. 384x512") from error


def _jobs(args: argparse.Namespace) -> list[tuple[str, bool, tuple[int, int]]]:
    """Return the measurements that are asked for: metric, whether untrained, and size."""
    for name in (*args.metric, *args.untrained):
        check_metric_name(name)
    for name in args.untrained:
        if is_baseline(name) or "." in name or "=" in name:
            raise UsageError(f"--untrained {name}: give one of {', '.join(list_metrics())}; others have no paper size")
    chosen = [(name, True) for name in args.untrained] + [(name, False) for name in args.metric]
    if not chosen:
        ours = list_metrics()
        chosen = [(name, True) for name in ours]
        chosen += [(f"{name}.{tag}", False) for name in ours for tag in checkpoint_tags(name)]
        chosen += [(name, False) for name in BASELINES if is_installed("piq")]
    return [(name, untrained, size) for size in args.size or [DEFAULT_SIZE] for name, untrained in chosen]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    height, width = row["looked_at"]
    return {
        "metric": row["metric"],
        "size": f"{row['height']}x{row['width']}",
        "looked_at": f"{height}x{width}",
        "parameters": row["parameters"],
        "gflops": row["flops"] / 1e9,
        "seconds": row["seconds"],
        "memory_mb": row["memory"] / 1e6,
        "weights_mb": row["weight_bytes"] / 1e6,
        "uncounted": " ".join(row["uncounted_operations"]),
    }


def _circumstances() -> dict[str, Any]:
    """Return command, commit, date and machine, without which a time means nothing."""
    from iqametrics.training.environment import this_session

    session = this_session([], {})
    names = ("date", "commit", "changed_since_commit", "python", "packages", "hardware")
    return {
        "command": shlex.join(["iqametrics", *sys.argv[1:]]),
        **{name: session[name] for name in names},
        "other_packages": {package: version(package) for package in PACKAGES if is_installed(package)},
        "processor": _processor(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
