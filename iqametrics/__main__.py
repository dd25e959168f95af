"""`python -m iqametrics` is the command `iqametrics`."""

import sys

from iqametrics.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
