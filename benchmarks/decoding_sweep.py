"""Print what became of every file of the decoding sweep: tried, right, refused, wrong.

    python benchmarks/decoding_sweep.py            # this version
    python benchmarks/decoding_sweep.py --list     # and the name of each file that is not right

With PYTHONPATH on another checkout it measures that one. It needs the extra `dev`.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from sweep import outcome, table
from sweep_others import other_cases
from sweep_tiff import tiff_cases

from iqametrics.errors import InputError
from iqametrics.images import read_image


def read(data: bytes) -> np.ndarray:
    """Read a file as this package does: (H,W,3)."""
    return read_image(data).double().numpy().transpose(1, 2, 0)


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name each file that is not read right")
    parser.add_argument("--only", default="", help="groups that begin so")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes = [
        (case, outcome(case, read, InputError))
        for cases in (tiff_cases(), other_cases())
        for case in cases
        if case.group.startswith(options.only)
    ]
    for line in table(outcomes):
        print(line)
    if options.list:
        for case, result in outcomes:
            if result != "right":
                print(f"{result:16}{case.group}: {case.name}")


if __name__ == "__main__":
    main()
