"""The command line on the two fake metrics, in a process of its own: `python fake_cli.py score ...`."""

import sys
import tempfile
from pathlib import Path

import fakes
import pytest

from iqametrics.cli.main import main

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        fakes.install(Path(folder), patch)
        sys.exit(main())
