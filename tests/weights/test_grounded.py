"""Labels for kinds of damage that nobody has scored."""

import grounded
import numpy as np
import pytest

from iqametrics.datasets.distortions import DISTORTIONS, EXTRA_DISTORTIONS

KNOWN_KINDS = ["jpeg"] * 5 + ["gaussian_blur"] * 5
# At the same values blur is labelled lower than JPEG.
KNOWN_VALUES = np.tile(np.arange(5.0), 2)[:, None]
KNOWN_LABELS = np.array([0.2, 0.4, 0.6, 0.8, 1.0, 0.0, 0.1, 0.2, 0.3, 0.4])


def labels(kinds, values, **options):
    column = np.array(values, dtype=float)[:, None]
    return grounded.grounded_labels(kinds, column, KNOWN_KINDS, KNOWN_VALUES, KNOWN_LABELS, **options)


def test_every_further_kind_has_its_nearest():
    assert set(grounded.NEAREST) == {kind.name for kind in EXTRA_DISTORTIONS.values()}
    known = {kind.name for kind in DISTORTIONS.values()}
    assert known.issuperset(name for names in grounded.NEAREST.values() for name in names)


def test_label_never_falls_where_the_metrics_rise():
    found = labels(["bicubic_upscale"] * 6, [-1, 0.5, 1, 2.2, 3, 9])
    assert np.all(np.diff(found) >= 0)
    assert found[0] < found[-1]


def test_label_is_that_of_the_nearest_kind_and_of_all_in_equal_parts():
    # At the middle value all kinds together say (0.6 + 0.2) / 2, JPEG alone 0.6 and blur alone 0.2.
    assert labels(["jpeg_resaved", "bicubic_upscale"], [2, 2]) == pytest.approx([0.5, 0.3])


def test_kinds_left_out_teach_nothing():
    # Of blur alone: 0.2, whatever JPEG's labels are.
    assert labels(["jpeg_resaved"], [2], without=["jpeg"]) == pytest.approx([0.2])
