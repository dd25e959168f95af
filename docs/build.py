"""Build the documentation's site: `python docs/build.py`, then open build/docs/index.html.

Warnings fail. The network is not used. Versions that were built before into the same folder stay beside this one.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from sphinx.cmd.build import main as sphinx_build

DOCS = Path(__file__).resolve().parent


def build(output: Path, *, jobs: int = 2) -> int:
    """Build the site into a folder of its version.

    Args:
        output: Folder of all versions.
        jobs: Number of processes.

    Returns:
        Exit status, 0 if the site was built without a warning.
    """
    target = output / version("iqametrics")
    options = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-j", str(jobs), "-d", str(output / ".doctrees")]
    return sphinx_build([*options, str(DOCS), str(target)])


def main() -> int:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Build the documentation's site; warnings fail.")
    parser.add_argument("--output", type=Path, default=DOCS.parent / "build" / "docs", help="folder of all versions")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    args = parser.parse_args()
    status = build(args.output, jobs=args.jobs)
    if status == 0:
        print(args.output / "index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
