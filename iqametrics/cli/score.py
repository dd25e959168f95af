"""`iqametrics score`: images in, one row an image and metric out, with a gate over the scores."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_BELOW,
    EXIT_FAILED,
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    add_compute_options,
    add_view_option,
    check_metric_name,
    check_output,
    complain,
    import_torch,
    make_metrics,
    positive,
    seconds,
    threads,
)
from iqametrics.cli.journal import Journal, check_resume, open_journal, with_journal
from iqametrics.cli.metadata import check_append_to, open_metadata
from iqametrics.cli.output import FORMATS, GATE_FORMATS, open_rows
from iqametrics.cli.progress import progress
from iqametrics.common.remote import is_remote
from iqametrics.errors import InputError
from iqametrics.gate.baseline import Baseline, read_allowed_drop, read_baseline
from iqametrics.gate.limits import AskedMetric, Limit, read_limits
from iqametrics.gate.verdicts import Gate
from iqametrics.registry import metric_spec

if TYPE_CHECKING:
    from iqametrics.cli.order import Judged, RowOrder
    from iqametrics.metric import Metric
    from iqametrics.scoring import Item, Row

COLUMNS = ("image", "reference", "metric", "score", "error")
_EPILOG = """\
exit status: 0 all scored; 1 an image could not be scored (its row says why); 2 wrong usage;
3 all scored, but the gate fails; 130 interrupted (the rows so far are written)."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "score",
        help="score images",
        description="Score images. Rows come in the order of the images; a bad file is reported and the rest scored.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="file, folder, video, address, or - for paths on stdin, one a line"
    )
    parser.add_argument(
        "--stdin-image", action="store_true", help="score the picture whose bytes come on stdin; its row is called -"
    )
    add_metric_option(parser)
    references = parser.add_mutually_exclusive_group()
    references.add_argument("--ref", metavar="REF", help="reference of all the images, for full-reference metrics")
    references.add_argument(
        "--ref-dir", metavar="DIR", help="folder of references, paired by relative path, then by unique stem"
    )
    parser.add_argument("--recursive", action="store_true", help="search folders with their subfolders")
    parser.add_argument(
        "--allow-urls",
        action="store_true",
        help="fetch addresses: http and https, 64 MB and 30 s at most each; with the extra remote s3://, gs://, hf://",
    )
    parser.add_argument(
        "--every",
        type=seconds,
        default=1.0,
        metavar="TIME",
        help="step between the frames of a video that are scored: 1s (default), 0.5s, 500ms; 0 for all",
    )
    add_view_option(parser)
    parser.add_argument(
        "--strict",
        action="store_true",
        help="an error for what would be passed over: pictures of formats that are not read, references without an "
        "image, pictures of the baseline that are gone",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="a column that says which share of photographs like those of training is less unlike them (0.5 is usual; "
        "the score of a picture above 0.99 is a guess); takes about twice the time",
    )
    parser.add_argument(
        "--meaning",
        action="store_true",
        help="columns that say which share of a named set of pictures a picture beats, and of exactly two pictures how "
        "likely people prefer it to the other",
    )
    _add_output_options(parser.add_argument_group("output"))
    _add_gate_options(parser.add_argument_group("gate (status 3 where it fails)"))
    add_config_option(parser)
    add_compute_options(parser)
    parser.add_argument(
        "--jobs",
        type=threads,
        metavar="N",
        help="score N pictures at once on a CPU, the processors divided among them (default: one for each processor, "
        "up to 4, for 16 pictures or more; else 1)",
    )
    parser.set_defaults(run=run)


def add_html_option(group: Any) -> None:
    """Add the option that writes a page beside the output."""
    group.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page to look through scores and pictures too (see iqametrics report)",
    )


def add_metric_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the metrics."""
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar=METRIC,
        help=f"{METRIC_HELP}; may be repeated",
    )


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the file of settings, which `settings.with_settings` has read by then."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="take options from there (default: iqametrics.toml, or [tool.iqametrics] of pyproject.toml, found here or "
        "in a folder above)",
    )


def _add_output_options(group: Any) -> None:
    add_html_option(group)
    formats = (*FORMATS, *GATE_FORMATS)
    group.add_argument("--format", choices=formats, default="table", help="form of the output (default: table)")
    group.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all, not on stdout")
    group.add_argument(
        "--append-to",
        type=Path,
        metavar="FILE.jsonl",
        help="put the scores too as columns into a metadata.jsonl, whose lines name pictures in file_name",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="take over the scores that an earlier run had finished for --output, also where it was killed, and leave "
        "FILE.journal for the next; errors and files that changed are tried anew",
    )
    group.add_argument(
        "--sort", choices=("name", "score"), help="order of the rows; score: the worst first (default: as given)"
    )
    group.add_argument("--top", type=positive, metavar="K", help="only the K worst of each metric")
    group.add_argument("--quiet", action="store_true", help="no progress and no notes; errors and the gate still speak")


def _add_gate_options(group: Any) -> None:
    group.add_argument(
        "--fail-below",
        action="append",
        default=[],
        metavar="[NAME=]X",
        help="scores below X fail; without NAME, where there is one metric, scores worse than X; may be repeated",
    )
    group.add_argument(
        "--fail-above",
        action="append",
        default=[],
        metavar="[NAME=]X",
        help="scores above X fail, for metrics whose lower scores are better; may be repeated",
    )
    group.add_argument(
        "--baseline", type=Path, metavar="FILE", help="what score wrote earlier (json, jsonl, csv), to compare with"
    )
    group.add_argument(
        "--fail-drop",
        action="append",
        default=[],
        metavar="[mean=]X",
        help="a picture that is worse than in --baseline by more than X fails; mean=X: the average; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    limits, baseline = _check(args)
    import_torch()
    from iqametrics.cli.inputs import Inputs
    from iqametrics.cli.meaning import Meanings
    from iqametrics.cli.order import RowOrder
    from iqametrics.cli.stdin import read_paths, read_picture
    from iqametrics.cli.videos import VideoSummary

    inputs = Inputs(
        args.images or ["-"],
        stdin=read_paths(sys.stdin),
        stdin_image=read_picture(sys.stdin) if args.stdin_image else None,
        recursive=args.recursive,
        ref=args.ref,
        ref_dir=args.ref_dir,
        strict=args.strict,
        allow_urls=args.allow_urls,
        every=args.every,
    )
    metrics = make_metrics(args.metric, args.device, args.dtype, quiet=args.quiet, view=args.view)
    _check_uncertainty(metrics, args)
    total = inputs.count()
    meanings = Meanings(metrics if args.meaning else (), pair=total == 2)
    gate = _gate(metrics, limits, baseline, args)
    added = [name for name, asked in (("uncertainty", args.uncertainty), ("fails", gate.is_set)) if asked]
    added = [*meanings.columns, *added]
    columns = [*COLUMNS[:-1], *added, COLUMNS[-1], *fingerprint_column(args.format)]
    fingerprints = {metric.full_name: str(metric.fingerprint) for metric in metrics}
    records: list[dict[str, Any]] = []
    failed = False
    videos = VideoSummary({metric.full_name: metric.higher_is_better for metric in metrics})
    with (
        open_journal(args.output, metrics, resume=args.resume, uncertainty=args.uncertainty) as journal,
        open_rows(args.format, columns, args.output) as writer,
        open_metadata(args.append_to, fingerprints) as metadata,
    ):
        rows = videos.watch(score_with_progress(metrics, inputs, args, total=total, journal=journal))
        rows = rows if metadata is None else metadata.watch(rows)
        for row, fails in judged(meanings.watch(rows), gate, RowOrder(args.sort, args.top)):
            record = to_record(row, fails) | meanings.of(row) | {"fingerprint": fingerprints[row.metric]}
            writer.write(record)
            if args.html is not None:
                records.append(record)
            failed |= row.error is not None
    if args.html is not None:
        write_html(args.html, records, ", ".join(args.images or ["-"]), quiet=args.quiet)
    for line in [] if args.quiet else [*meanings.lines(), *inputs.notes()]:
        complain(f"note: {line}")
    for line in [*videos.lines(), *gate.finish()]:
        complain(line)
    if failed:
        return EXIT_FAILED
    return EXIT_BELOW if gate.failed else EXIT_OK


def write_html(path: Path, records: Sequence[dict[str, Any]], title: str, *, quiet: bool) -> None:
    """Write the page of rows that were just scored, and say how large it is."""
    from iqametrics.report.records import collect
    from iqametrics.report.write import Options, write_report

    size = write_report(path, collect(title, records), options=Options(root=Path()))
    if not quiet:
        complain(f"{path}: {size / 1e6:.1f} MB; iqametrics report has more options")


def judged(rows: "Iterator[Row]", gate: Gate, order: "RowOrder") -> "Iterator[Judged]":
    """Yield rows with why they fail, one by one if possible, else when all are known, also after Ctrl-C."""
    if not (order.needs_all or gate.needs_all):
        for row in rows:
            yield row, gate.judge(row)
        return
    known: list[Row] = []
    interrupt: KeyboardInterrupt | None = None
    try:
        for row in rows:
            known.append(row)
    except KeyboardInterrupt as stopped:
        interrupt = stopped
    gate.pair(known)
    pairs = [(row, gate.judge(row)) for row in known]
    yield from order.arrange(pairs, gate.higher_is_better) if order.needs_all else pairs
    if interrupt is not None:
        raise interrupt


def score_with_progress(
    metrics: "list[Metric]",
    items: "Iterable[Item]",
    args: argparse.Namespace,
    *,
    total: int | None,
    journal: Journal | None = None,
) -> "Iterator[Row]":
    """Score items, with errors as lines on stderr, and progress.

    Args:
        metrics: The metrics.
        items: The images.
        args: The options of the command.
        total: The number of images; None if nobody knows it.
        journal: Has rows that are taken over, and gets the others.
    """
    from iqametrics.scoring import score_items
    from iqametrics.scoring_jobs import default_jobs, score_in_jobs

    jobs = getattr(args, "jobs", 1) or default_jobs(metrics, total)
    total = None if total is None else total * len(metrics)
    score = partial(
        score_items,
        metrics,
        batch_size=args.batch_size,
        # A job decodes ahead while it scores; the others keep the processors busy.
        workers=args.workers or (1 if jobs > 1 else None),
        uncertainty=getattr(args, "uncertainty", False),
    )
    if jobs > 1:
        score = partial(score_in_jobs, score=score, jobs=jobs)
    rows = with_journal(journal, metrics, items, score)
    # Rows that go to a terminal as they come would run into the bar.
    bar = getattr(args, "format", "table") == "table" or bool(getattr(args, "output", None)) or not sys.stdout.isatty()
    last = None
    with progress(total, "score", bar=bar, quiet=getattr(args, "quiet", False)) as shown:
        for row in rows:
            if row.error is not None and (row.image, row.error) != last:
                last = (row.image, row.error)
                shown.clear()
                complain(row.error if row.image in row.error else f"{row.image}: {row.error}")
            shown.update()
            yield row


def to_record(row: "Row", fails: str | None = None) -> dict[str, Any]:
    """Turn a row into what is written."""
    record = {"image": row.image, "reference": row.reference, "metric": row.metric, "score": row.score}
    more = {"uncertainty": row.uncertainty, "fails": fails, "error": row.error}
    return record | {name: value for name, value in more.items() if value is not None}


def fingerprint_column(form: str) -> list[str]:
    """Name the column of the fingerprint where the form is for programs; a table on a terminal has no room for it."""
    return ["fingerprint"] if form == "csv" else []


def check_metrics(names: Sequence[str], command: str) -> list[AskedMetric]:
    """Refuse unknown metrics, in milliseconds.

    Raises:
        UsageError: If there is no metric, or one is not known.
    """
    if not names:
        raise UsageError(f'give --metric NAME, or metric = ["NAME"] under [{command}] of iqametrics.toml')
    for name in names:
        check_metric_name(name)
    return [AskedMetric(name, metric_spec(name)) for name in names]


def _check(args: argparse.Namespace) -> tuple[list[tuple[Limit, ...]], Baseline | None]:
    """Refuse what cannot work before anything slow is imported; read the gate."""
    asked = check_metrics(args.metric, "score")
    full_reference = [metric.text for metric in asked if metric.spec.mode == "fr"]
    given = "--ref" if args.ref is not None else "--ref-dir" if args.ref_dir is not None else None
    if full_reference and given is None:
        raise UsageError(f"{full_reference[0]} compares with a reference; give --ref or --ref-dir")
    if given and not full_reference:
        raise UsageError(f"{' and '.join(args.metric)} takes no reference; leave out {given}")
    if not args.images and not args.stdin_image:
        raise UsageError("give IMAGE: a file, a folder, or - for paths on stdin")
    _check_addresses(args)
    if (args.jobs or 1) > 1 and any(metric.spec.shares_state for metric in asked):
        raise UsageError("--jobs is not for pyiqa's metrics, which share state between pictures; leave it out")
    if args.images.count("-") > 1:
        raise UsageError("- (paths on stdin) can be given once only")
    check_output(args.output, "--output")
    check_output(args.html, "--html")
    check_output(args.append_to, "--append-to")
    check_append_to(args.append_to)
    check_resume(args.output, "--output", resume=args.resume)
    if args.fail_drop and args.baseline is None:
        raise UsageError("--fail-drop compares with an earlier run; give --baseline FILE")
    try:
        read_allowed_drop(args.fail_drop)
        limits = read_limits(asked, args.fail_below, args.fail_above)
    except InputError as error:
        raise UsageError(str(error)) from error
    return limits, None if args.baseline is None else read_baseline(args.baseline)


def _check_uncertainty(metrics: "list[Metric]", args: argparse.Namespace) -> None:
    """Refuse `--uncertainty` where nobody could tell it.

    Raises:
        UsageError: If no metric knows it.
    """
    if args.uncertainty and not any(metric.knows_uncertainty for metric in metrics):
        names = " and ".join(metric.full_name for metric in metrics)
        raise UsageError(f"--uncertainty is not known of {names}; bpclip-nr.lite and pfd-iqa.lite have it")


def _check_addresses(args: argparse.Namespace) -> None:
    addresses = [image for image in args.images if is_remote(image)]
    if addresses and not args.allow_urls:
        raise UsageError(f"{addresses[0]} is an address; give --allow-urls to fetch it")
    if args.ref is not None and is_remote(args.ref):
        raise UsageError(f"--ref {args.ref} is an address; fetch it and give the file")


def _gate(
    metrics: "list[Metric]", limits: list[tuple[Limit, ...]], baseline: Baseline | None, args: argparse.Namespace
) -> Gate:
    names = [metric.full_name for metric in metrics]
    if baseline is not None:
        baseline.check(names)
    return Gate(
        dict(zip(names, limits, strict=True)),
        {metric.full_name: metric.higher_is_better for metric in metrics},
        baseline,
        read_allowed_drop(args.fail_drop),
        strict=args.strict,
    )
