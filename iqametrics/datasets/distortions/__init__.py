"""Distortions of photographs: KADID-10k's 25 types at 5 levels, and others for variety."""

from iqametrics.datasets.distortions.table import (
    DISTORTIONS,
    EXTRA_DISTORTIONS,
    LEVELS,
    Distortion,
    distort,
    find_distortion,
)

__all__ = ["DISTORTIONS", "EXTRA_DISTORTIONS", "LEVELS", "Distortion", "distort", "find_distortion"]
