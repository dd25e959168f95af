"""`iqametrics completion`: a script that lets a shell complete commands, options, metrics and paths (by shtab)."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iqametrics.cli.common import EXIT_OK, METRIC
from iqametrics.datasets.catalogue import list_datasets
from iqametrics.errors import MissingExtraError
from iqametrics.registry import checkpoint_tags, list_metrics

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
_EPILOG = """\
where it goes, for one user:
  bash    iqametrics completion bash > ~/.local/share/bash-completion/completions/iqametrics
  zsh     iqametrics completion zsh > FOLDER/_iqametrics, a FOLDER of $fpath
  fish    iqametrics completion fish > ~/.config/fish/completions/iqametrics.fish
  tcsh    iqametrics completion tcsh >> ~/.tcshrc
  powershell  iqametrics completion powershell >> $PROFILE
then open a new shell; make it anew after an update."""
_PATHS = {"IMAGE", "REF", "SCORES", "OTHER", "RECIPE", "FILE"}
"""What stands for a path in the help of options whose type does not say it."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "completion",
        help="print a script of completions for a shell",
        description="Print a script that lets a shell complete commands, options, metrics and paths.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    try:
        import shtab
    except ImportError as error:
        raise MissingExtraError(
            "completion needs shtab, which is not installed; pip install 'iqametrics[completion]'"
        ) from error
    from iqametrics.cli.main import build_parser

    parser = build_parser()
    for command, action in _arguments(parser):
        _tell(command, action, shtab)
    print(shtab.complete(parser, args.shell))
    return EXIT_OK


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Give the arguments of all commands, each with the command that takes it."""
    for action in parser._actions:
        yield parser.prog, action
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _arguments(child)


def _tell(command: str, action: argparse.Action, shtab: Any) -> None:
    """Say what an argument may be, on a parser that parses nothing."""
    if action.choices is not None:
        return
    if action.metavar == METRIC:
        names = list_metrics()
        action.choices = [*names, *(f"{name}.{tag}" for name in names for tag in checkpoint_tags(name))]
    elif "--dataset" in action.option_strings or (" datasets " in command and action.dest == "name"):
        action.choices = list_datasets()
    elif action.metavar in ("DIR", "RUN"):
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif action.type is Path or action.metavar in _PATHS or action.dest in ("a", "b"):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
