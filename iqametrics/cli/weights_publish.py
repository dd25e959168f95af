"""`iqametrics weights publish` and `iqametrics weights convert`."""

import argparse
import json
from pathlib import Path
from typing import Any

from iqametrics.cli.common import EXIT_OK, complain

KINDS = ("resnet50", "deit3", "clip-visual", "clip-text")
"""What can be converted; the same names as `iqametrics.publishing.convert.KINDS`, which would import torch."""


def add_publish_parser(commands: Any) -> None:
    """Add `publish` to the parser of `iqametrics weights`."""
    parser = commands.add_parser(
        "publish",
        help="put a checkpoint on the Hub, with a model card",
        description="Check a checkpoint, upload it with a model card made from its own record, and print the manifest "
        "entry. The token is the one that huggingface_hub finds (HF_TOKEN or `hf auth login`).",
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a .safetensors file, or the folder of a training run"
    )
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="the Hub repository; made if it is missing")
    parser.add_argument("--private", action="store_true", help="make the repository private if it is missing")
    parser.add_argument(
        "--dry-run", action="store_true", help="print card and manifest entry, upload nothing; needs no network"
    )
    parser.add_argument("--licence", metavar="TEXT", help="terms of the weights, instead of what the run says")
    parser.add_argument(
        "--labels",
        choices=("human", "made"),
        help="whether the scores trained on are human opinion or made by formulas; the card says it",
    )
    parser.add_argument("--tag", metavar="TAG", help="tag of the checkpoint, instead of what the run says")
    parser.add_argument(
        "--evaluated",
        action="append",
        default=[],
        metavar="RECORD.json=ORG/DATASET:TASK",
        help="put what `iqametrics evaluate --format json` or a benchmark job measured of it on the leaderboard of a "
        "benchmark on the Hub; may be repeated",
    )
    parser.set_defaults(run=run_publish)


def run_publish(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from iqametrics.publishing.upload import publish_checkpoint

    done = publish_checkpoint(
        args.checkpoint,
        args.repo,
        private=args.private,
        dry_run=args.dry_run,
        licence=args.licence,
        labels=args.labels,
        tag=args.tag,
        evaluated=args.evaluated,
    )
    if args.dry_run:
        print(done.card)
        for name, text in done.evaluations.items():
            print(f"{name}:\n{text}")
        complain("nothing was uploaded; above is the card, and on stdout's end the manifest entry, without a revision")
    else:
        complain(f"published {done.url}; the manifest entry to commit:")
    print(json.dumps(done.entry, indent=2))
    return EXIT_OK


def add_convert_parser(commands: Any) -> None:
    """Add `convert` to the parser of `iqametrics weights`."""
    parser = commands.add_parser(
        "convert",
        help="turn another project's safetensors file into ours",
        description="Rename the tensors of an upstream safetensors file to ours, leave out what our module does not "
        "have, and prove on random input that nothing else changed; where timm or open_clip is installed, also "
        "against that library.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the upstream .safetensors file")
    parser.add_argument("--to", required=True, type=Path, metavar="TARGET", help="the .safetensors file to write")
    parser.add_argument("--kind", required=True, choices=KINDS, help="which architecture it is")
    parser.set_defaults(run=run_convert)


def run_convert(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from iqametrics.publishing.convert import convert

    for line in convert(args.source, args.to, args.kind).lines():
        print(line)
    return EXIT_OK
