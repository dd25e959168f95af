"""Where things lie in the working copy."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
DATA = HELPERS.parent / "data"
ROOT = HELPERS.parent.parent
