"""The entry point: parse, run a command, turn every expected failure into one line and an exit status."""

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from iqametrics.cli.common import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_SIGNAL,
    EXIT_USAGE,
    Parser,
    UsageError,
    complain,
    tell_in_one_line,
)
from iqametrics.cli.settings import with_settings
from iqametrics.cli.streams import prepared_streams
from iqametrics.common.interrupts import stoppable
from iqametrics.errors import IqaError
from iqametrics.plugins import PluginWarning

COMMANDS = (
    "score",
    "compare",
    "report",
    "explain",
    "list",
    "info",
    "datasets",
    "evaluate",
    "synthesize",
    "train",
    "benchmark",
    "results",
    "weights",
    "serve",
    "export",
    "fleet",
    "completion",
)
"""The commands in the order of the help; each is a module of its name."""


class _Version(argparse.Action):
    """Print the version; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from iqametrics import __version__

        print(f"iqametrics {__version__}")
        parser.exit(EXIT_OK)


def build_parser(only: str | None = None) -> Parser:
    """Make the parser; nothing that it needs imports torch.

    Args:
        only: The one command that will be asked for: the modules of the others are not imported. None for all.
    """
    parser = Parser(
        prog="iqametrics", description="Image quality assessment: score images, train and evaluate metrics."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name in COMMANDS if only is None else (only,):
        importlib.import_module(f"iqametrics.cli.{name}").add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; None for those of the process.

    Returns:
        The exit status: 0 good, 1 something failed, 2 wrong usage, 3 the gate fails, 130 interrupted,
        141 whoever read the output left, 143 ended by SIGTERM, 129 by SIGHUP.
    """
    let_threads_sleep()
    with stoppable(), prepared_streams():
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        except UsageError as error:
            complain(f"error: {error}")
            return EXIT_USAGE
        except IqaError as error:
            complain(f"error: {error}")
            return EXIT_FAILED
        except BrokenPipeError:
            return EXIT_BROKEN_PIPE
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            complain(f"error: {where}{error.strerror or error}; check the place and its rights")
            return EXIT_FAILED
        except KeyboardInterrupt as interrupt:
            # A command may say what was kept and how to go on.
            complain(str(interrupt) or "interrupted")
            return EXIT_SIGNAL + getattr(interrupt, "number", signal.SIGINT)


def let_threads_sleep() -> None:
    """Have torch's threads wait for work asleep, unless the environment says otherwise.

    By default they spin between two operations. Where anything else wants the processor, decoding for one, every
    operation then waits for a thread that waits for the processor: 24 photographs took 30 s of processor time in place
    of 5. It is read when torch is imported, so it comes too late in a process that has done that.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _run(argv: Sequence[str]) -> int:
    try:
        parser = build_parser(argv[0] if argv and argv[0] in COMMANDS else None)
        args = parser.parse_args(with_settings(argv))
        with warnings.catch_warnings():
            tell_in_one_line(PluginWarning)
            status: int = args.run(args)
    except SystemExit as leaving:  # --help, --version, or a usage error that has been told
        status = leaving.code if isinstance(leaving.code, int) else EXIT_OK
    sys.stdout.flush()
    return status
