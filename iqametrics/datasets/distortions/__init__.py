"""Distortions of photographs: KADID-10k's 25 types at 5 levels, and others for variety.

The 25 follow their published parameters, not the authors' MATLAB code. Where the parameters leave a choice open, it is
made as follows:

- the image is not stretched, neither before nor after; the result is clipped to [0, 1];
- noise is Gaussian throughout (MATLAB's speckle is uniform, of the same variance);
- type 5 blends by the gradient, smoothed with sigma 2, over its 90th percentile;
- type 6 quantizes by median cut, type 22 by multi-level Otsu (Lloyd) on the histogram of all channels;
- type 15 denoises by hard thresholding in sliding cosine transforms instead of the trained DnCNN;
- types 16, 17 and 25 apply a monotone cubic (PCHIP) to R, G and B; type 24 sharpens luma;
- type 19 scatters by normal offsets, sampled bilinearly.

So the pixels are not KADID-10k's, and its human scores fit them only on average.
"""

from iqametrics.datasets.distortions.table import (
    DISTORTIONS,
    EXTRA_DISTORTIONS,
    LEVELS,
    Distortion,
    distort,
    find_distortion,
)

__all__ = ["DISTORTIONS", "EXTRA_DISTORTIONS", "LEVELS", "Distortion", "distort", "find_distortion"]
