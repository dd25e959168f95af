"""`iqametrics fleet`: as many pictures as there are, by workers on this machine or on a cluster."""

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    add_view_option,
    check_metric_name,
    check_output,
    complain,
    positive,
    threads,
)
from iqametrics.cli.progress import Progress, progress
from iqametrics.common.files import is_in_place, open_atomic
from iqametrics.common.interrupts import Stopped
from iqametrics.common.locks import locked
from iqametrics.errors import DataError, MissingExtraError
from iqametrics.registry import metric_spec

if TYPE_CHECKING:
    from iqametrics.fleet.parts import Parts
    from iqametrics.pipeline import BatchScorer, Scored

_THREADS = 2
_TOLD = 10
"""Pictures with an error that are named on stderr."""
_EPILOG = """\
INPUT is a folder (its pictures, tar shards and parquet files), a tar shard (of webdataset), a parquet file (a column of
bytes, or of paths), a CSV with a column image, a text file with a path a line, a picture, or - for paths on stdin.

exit status: 0 all scored; 1 a picture could not be scored (its row says why); 2 wrong usage; 130 interrupted (what is
finished stays in FILE.parts, and --resume goes on)."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "fleet",
        help="score very many images, by several processes",
        description="Score very many images by workers of Ray, on this machine or on a cluster, into a parquet file "
        "with a row for every image and metric, in the order of the input.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="where the images are, see below")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="parquet file to write")
    parser.add_argument(
        "--metric", action="append", required=True, metavar=METRIC, help=f"{METRIC_HELP}; may be repeated"
    )
    parser.add_argument("--recursive", action="store_true", help="search folders with their subfolders")
    parser.add_argument(
        "--allow-urls", action="store_true", help="fetch what lists name by address; an address as INPUT needs no leave"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take over what an earlier run had finished for --output, also where it was killed, and leave FILE.parts "
        "for the next; errors and files that changed are tried anew",
    )
    references = parser.add_mutually_exclusive_group()
    references.add_argument("--ref", metavar="REF", help="reference of all the images, for full-reference metrics")
    references.add_argument("--ref-dir", metavar="DIR", help="folder of references, for images in folders")
    columns = parser.add_argument_group("columns of parquet files and CSV")
    columns.add_argument("--image-column", default="image", metavar="NAME", help="the image (default: image)")
    columns.add_argument("--reference-column", default="reference", metavar="NAME", help="its reference")
    columns.add_argument("--name-column", metavar="NAME", help="what an image of bytes is called in the output")
    workers = parser.add_argument_group("workers")
    workers.add_argument("--actors", type=positive, metavar="N", help="how many (default: one a GPU or processor)")
    workers.add_argument(
        "--gpus-per-actor", type=_share, metavar="G", help="GPUs of each, or a share (default: 1 if any)"
    )
    workers.add_argument("--address", metavar="A", help="join the cluster of Ray there; auto for that of this machine")
    workers.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="what in")
    workers.add_argument("--batch-size", type=positive, metavar="N", help="most images at once (default: 1 or 8)")
    workers.add_argument("--workers", type=threads, metavar="N", help="threads of each that read images (default: 2)")
    add_view_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    _check(args)
    try:
        import ray  # noqa: F401

        from iqametrics.fleet.run import Pool, score_sources
    except ImportError as error:
        raise MissingExtraError(
            f"fleet needs {error.name}, which is not installed; pip install 'iqametrics[fleet]'"
        ) from error
    from iqametrics.cli.fleet_inputs import Sources

    sources = Sources(args)
    found = list(sources)
    maker = " ".join(str(scorer.metric.fingerprint) for scorer in _scorers(args, "cpu"))
    pool = Pool(args.actors, args.gpus_per_actor, args.address)
    with _parts(args) as parts:
        try:
            # Ray tells of workers that died on stdout.
            with redirect_stdout(sys.stderr), progress(sources.rows, "row") as shown:
                digests = score_sources(
                    found, lambda device: _scorers(args, device), maker, parts, pool, partial(_watch, shown, Counter())
                )
        except KeyboardInterrupt as stopped:
            number = getattr(stopped, "number", signal.SIGINT)
            told = f"interrupted; {parts.folder} has what is finished, and --resume goes on"
            raise Stopped(told, number) from stopped
        with open_atomic(args.output, error=DataError) as stream:
            parts.join(digests, stream)
        failed = _tell(parts, digests, args.output)
    if not args.resume:
        parts.remove()
    for line in sources.notes():
        complain(f"note: {line}")
    return EXIT_FAILED if failed else EXIT_OK


@contextmanager
def _parts(args: argparse.Namespace) -> "Iterator[Parts]":
    """Open the parts of the output; no other run can meanwhile."""
    from iqametrics.fleet.parts import Parts

    folder = args.output.with_name(f"{args.output.name}.parts")
    if folder.exists() and not args.resume:
        complain(f"note: {folder} of an earlier run is begun anew; with --resume it would have been taken over")
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock", wait=False, error=DataError) as alone:
        if not alone:
            raise UsageError(f"{folder} is in use by another run; wait for it, or give another --output")
        yield Parts(folder, len(args.metric), resume=args.resume)


def _watch(shown: Progress, told: "Counter[str]", rows: "Sequence[Scored]", kept: int) -> None:
    """Show progress, and name the first pictures that have an error."""
    for row in rows:
        if row.error is not None and told.total() < _TOLD:
            told[row.image] += 1
            shown.clear()
            complain(row.error if row.image in row.error else f"{row.image}: {row.error}")
    shown.update(len(rows) + kept)


def _tell(parts: "Parts", digests: Sequence[bytes], output: Path) -> int:
    """Say what was done; return the number of rows that have an error."""
    counts = [parts.count(digest) for digest in digests]
    rows, failed = sum(count for count, _ in counts), sum(failed for _, failed in counts)
    complain(f"{output}: {rows} rows" + (f"; {failed} images have an error (column error says why)" if failed else ""))
    return failed


def _scorers(args: argparse.Namespace, device: str) -> "list[BatchScorer]":
    from iqametrics.pipeline import BatchScorer

    return [
        BatchScorer(
            name,
            device=device,
            dtype=args.dtype,
            batch_size=args.batch_size,
            workers=args.workers or _THREADS,
            view=args.view,
        )
        for name in args.metric
    ]


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything slow is imported."""
    for name in args.metric:
        check_metric_name(name)
    check_output(args.output, "--output")
    if is_in_place(args.output):
        raise UsageError(f"--output {args.output} is no file; parquet cannot be written into a pipe")
    full_reference = any(metric_spec(name).mode == "fr" for name in args.metric)
    given = "--ref" if args.ref is not None else "--ref-dir" if args.ref_dir is not None else None
    if given and not full_reference:
        raise UsageError(f"{' and '.join(args.metric)} takes no reference; leave out {given}")


def _share(text: str) -> float:
    value = float(text)
    if not (0 <= value < 1 or value.is_integer()):
        raise argparse.ArgumentTypeError(f"{text} is neither a whole number of GPUs nor a share of one")
    return value
