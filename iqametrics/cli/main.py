"""The entry point: parse, run a command, turn every expected failure into one line and an exit status."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from iqametrics.cli import benchmark, compare, datasets, evaluate, info, score, synthesize, train, weights
from iqametrics.cli import list as list_command
from iqametrics.cli.common import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    Parser,
    UsageError,
    complain,
    tell_in_one_line,
)
from iqametrics.cli.settings import with_settings
from iqametrics.errors import IqaError
from iqametrics.plugins import PluginWarning


class _Version(argparse.Action):
    """Print the version; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from iqametrics import __version__

        print(f"iqametrics {__version__}")
        parser.exit(EXIT_OK)


def build_parser() -> Parser:
    """Make the parser of all commands; nothing that it needs imports torch."""
    parser = Parser(
        prog="iqametrics", description="Image quality assessment: score images, train and evaluate metrics."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for module in (score, compare, list_command, info, datasets, evaluate, synthesize, train, benchmark, weights):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; None for those of the process.

    Returns:
        The exit status: 0 good, 1 something failed, 2 wrong usage, 3 the gate fails, 130 interrupted.
    """
    try:
        args = build_parser().parse_args(with_settings(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        complain(f"error: {error}")
        return EXIT_USAGE
    except SystemExit as leaving:  # --help, --version, or a usage error that has been told
        return leaving.code if isinstance(leaving.code, int) else EXIT_OK
    try:
        # Names of files that are not UTF-8 go out as they came in.
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="surrogateescape")
        with warnings.catch_warnings():
            tell_in_one_line(PluginWarning)
            status: int = args.run(args)
        sys.stdout.flush()
    except UsageError as error:
        complain(f"error: {error}")
        return EXIT_USAGE
    except IqaError as error:
        complain(f"error: {error}")
        return EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has left; Python must not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        # A command may say what was kept and how to go on.
        complain(str(interrupt) or "interrupted")
        return EXIT_INTERRUPTED
    return status
