"""`iqametrics serve`: a metric as a server."""

import argparse
from typing import Any

from iqametrics.cli.common import (
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    add_compute_options,
    add_view_option,
    check_metric_name,
    complain,
    positive,
)
from iqametrics.errors import MissingExtraError

LOCAL = ("127.0.0.1", "::1", "localhost")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="answer requests with scores",
        description="Answer POST /score with the score of the picture that is sent, until Ctrl-C. There is no password "
        "and no encryption: for other machines, put it behind a proxy that has them.",
    )
    parser.add_argument("--metric", required=True, metavar=METRIC, help=METRIC_HELP)
    parser.add_argument("--host", default=LOCAL[0], help="address to listen at (default: this machine only)")
    parser.add_argument("--port", type=_port, default=8000, help="port; 0 for one that is free (default: 8000)")
    parser.add_argument("--allow-urls", action="store_true", help="fetch pictures at addresses that requests name")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-mb", type=positive, default=64, metavar="MB", help="largest request (default: 64)")
    limits.add_argument(
        "--timeout", type=positive, default=30, metavar="S", help="seconds that a request may take (default: 30)"
    )
    limits.add_argument(
        "--max-waiting", type=positive, default=256, metavar="N", help="requests that may wait (default: 256)"
    )
    add_compute_options(parser)
    add_view_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    check_metric_name(args.metric)
    try:
        from iqametrics.serve.run import make_server, open_socket
    except ImportError as error:
        raise MissingExtraError(
            f"serve needs {error.name}, which is not installed; pip install 'iqametrics[serve]'"
        ) from error
    from iqametrics.pipeline import BatchScorer
    from iqametrics.serve.requests import Limits

    try:
        listening = open_socket(args.host, args.port)
    except OSError as error:
        told = error.strerror or error
        raise UsageError(f"{args.host} port {args.port} cannot be listened at ({told}); give another --port") from error
    with listening:
        scorer = BatchScorer(
            args.metric,
            device=args.device,
            dtype=args.dtype,
            batch_size=args.batch_size,
            workers=args.workers,
            view=args.view,
        )
        limits = Limits(args.max_mb * 2**20, args.timeout, args.allow_urls)
        server = make_server(scorer, limits, most_at_once=32, most_waiting=args.max_waiting)
        host, port = listening.getsockname()[:2]
        if host not in LOCAL:
            complain(f"note: anybody who reaches {host} may ask; there is no password")
        complain(f"{scorer.metric.full_name} answers at http://{f'[{host}]' if ':' in host else host}:{port}/score")
        server.run(sockets=[listening])
    return EXIT_OK


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is no port; give 0 to 65535")
    return value
