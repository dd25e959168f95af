"""Scores against opinion: figures, the fitted curve with its band, and what each picture misses it by."""

import math
from collections.abc import Sequence
from typing import Any

from iqametrics.report.records import Picture

_FEWEST = 3
_POINTS = 61
_PARAMETERS = 4
_TWO_SIDED_95 = 1.96


def opinion_view(metric: str, pictures: Sequence[Picture]) -> dict[str, Any] | None:
    """Compare the scores of one metric with the opinion scores.

    The band is where 95 of 100 pictures are expected around the curve, if the residuals are normal and alike
    everywhere: the curve plus and minus 1.96 standard deviations of the residuals.

    Args:
        metric: Name of the metric.
        pictures: All pictures; those without an opinion or a score are left out.

    Returns:
        Figures, points of the curve, half the width of the band, and the residual (opinion minus curve) of each
        picture, None where it has none; None where there are too few pictures.
    """
    import numpy as np

    from iqametrics.evaluation import evaluate, fit_logistic

    used = [index for index, picture in enumerate(pictures) if picture.mos is not None and metric in picture.scores]
    if len(used) < _FEWEST:
        return None
    scores = np.array([pictures[index].scores[metric] for index in used])
    opinions = np.array([pictures[index].mos for index in used], dtype=np.float64)
    references = [pictures[index].reference for index in used]
    # Versions of one reference are not independent, so the interval draws them together.
    groups = references if None not in references and len(set(references)) > 1 else None
    figures = evaluate(scores, opinions, groups=groups)
    view: dict[str, Any] = {"figures": _known(figures.to_dict()), "curve": [], "band": None, "residuals": None}
    fit = fit_logistic(scores, opinions)
    if math.isnan(fit.parameters[0]):
        return view
    places = np.linspace(scores.min(), scores.max(), _POINTS)
    misses = opinions - fit.predict(scores)
    spread = math.sqrt(float(misses @ misses) / max(1, len(used) - _PARAMETERS))
    residuals: list[float | None] = [None] * len(pictures)
    for index, miss in zip(used, misses, strict=True):
        residuals[index] = round(float(miss), 6)
    points = zip(places.tolist(), fit.predict(places).tolist(), strict=True)
    view["curve"] = [[round(x, 6), round(y, 6)] for x, y in points]
    view["band"] = _TWO_SIDED_95 * spread
    view["residuals"] = residuals
    return view


def _known(figures: dict[str, Any]) -> dict[str, Any]:
    shown = ("n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "krcc", "rmse")
    return {name: figures[name] for name in shown if figures[name] is not None}
