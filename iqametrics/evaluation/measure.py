"""From scores, opinions, groups and spreads to what is reported: measures of each metric, and their comparison.

Training, `iqametrics evaluate` and `iqametrics benchmark` compute them here, so that the same scores of the same images
have the same measures and the same interval everywhere.
"""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from iqametrics.errors import DataError
from iqametrics.evaluation.comparison import Comparison, compare_metrics
from iqametrics.evaluation.summary import DEFINITIONS, evaluate

Scores = Sequence[float | None]
"""One score an image, None where it could not be scored."""

_FEW_GROUPS = 20
_CURVES = {"logistic": "four", "logistic5": "five"}


def measure(
    scores: Scores,
    opinions: Sequence[float],
    *,
    groups: Sequence[str],
    spreads: Sequence[float | None] | None = None,
) -> dict[str, int | float | bool | None]:
    """Compute all measures of a metric on the images that it could score.

    Args:
        scores: Scores of the metric.
        opinions: Opinion scores of the same images.
        groups: What the bootstrap draws together, one label an image. Images of one group are no sample to resample:
            they have measures, but no interval.
        spreads: Standard deviations of the opinions, which count where all of these images have one; None for none.

    Returns:
        The fields of `Evaluation`, ready for JSON.

    Raises:
        DataError: If fewer than 3 images could be scored.
    """
    known = [index for index, score in enumerate(scores) if score is not None]
    values = [score for score in scores if score is not None]
    drawn = _drawn(groups, known)
    spread = [std for index in known if (std := spreads[index]) is not None] if spreads else []
    figures = evaluate(
        values,
        [opinions[index] for index in known],
        groups=drawn,
        spread=spread if spread and len(spread) == len(known) else None,
    ).to_dict()
    return figures if drawn else figures | {"srcc_low": None, "srcc_high": None}


def compare(
    scores: Mapping[str, Scores],
    opinions: Sequence[float],
    *,
    groups: Sequence[str],
    lower_is_better: Collection[str] = (),
) -> list[Comparison]:
    """Compare metrics in pairs on the images that all of them could score.

    Args:
        scores: Scores of each metric, by its name.
        opinions: Opinion scores of the same images.
        groups: What the bootstrap draws together; of images of one group it tells nothing.
        lower_is_better: Names of metrics to turn round.

    Raises:
        DataError: If fewer than 3 images could be scored by all.
    """
    known = [index for index in range(len(opinions)) if all(of[index] is not None for of in scores.values())]
    columns = {name: [score for index in known if (score := of[index]) is not None] for name, of in scores.items()}
    drawn = _drawn(groups, known)
    pairs = compare_metrics(
        columns, [opinions[index] for index in known], lower_is_better=lower_is_better, groups=drawn
    )
    return pairs if drawn else [_without_bootstrap(pair) for pair in pairs]


def report(
    scores: Mapping[str, Scores],
    opinions: Sequence[float],
    *,
    groups: Sequence[str],
    by: str,
    spreads: Sequence[float | None] | None = None,
    lower_is_better: Collection[str] = (),
) -> dict[str, Any]:
    """Compute the measures of one metric, or those of several with their comparison.

    Args:
        scores: Scores of each metric, by its name.
        opinions: Opinion scores of the same images.
        groups: What the bootstrap draws together.
        by: What the groups are: "group", "reference" or "image".
        spreads: As for `measure`.
        lower_is_better: Names of metrics to turn round in the comparison.

    Returns:
        Groups, results (one record a metric, with its error where it has no figures), comparison (None for one metric,
        empty where they cannot be compared), problem (why they cannot) and definitions.
    """
    number = len(set(groups))
    pairs, problem = None, None
    if len(scores) > 1:
        try:
            compared = compare(scores, opinions, groups=groups, lower_is_better=lower_is_better)
            pairs = [pair.to_dict() for pair in compared]
        except DataError as error:
            pairs, problem = [], str(error)
    return {
        "groups": {"by": by, "number": number, "used": number > 1},
        "results": [_record(name, of, opinions, groups, spreads) for name, of in scores.items()],
        "comparison": pairs,
        "problem": problem,
        "definitions": dict(DEFINITIONS),
    }


def notes(found: Mapping[str, Any]) -> Iterator[str]:
    """Say what is to be known of the figures of a `report`."""
    by, number = found["groups"]["by"], found["groups"]["number"]
    if number == 1:
        yield "all images share one group or reference, so there is no interval: nothing to draw from"
    elif by != "image" and number < _FEW_GROUPS:
        yield f"the images share only {number} {by}s, so intervals come out somewhat too narrow"
    for record in found["results"]:
        for name, parameters in _CURVES.items():
            if record.get(f"plcc_{name}") is not None and not record[f"{name}_converged"]:
                yield f"{record['metric']}: the fit of the curve of {parameters} parameters did not converge"
    if found["problem"]:
        yield f"the metrics are not compared: {found['problem']}"


def _record(
    name: str,
    scores: Scores,
    opinions: Sequence[float],
    groups: Sequence[str],
    spreads: Sequence[float | None] | None,
) -> dict[str, Any]:
    known = sum(score is not None for score in scores)
    figures: dict[str, Any]
    try:
        figures = measure(scores, opinions, groups=groups, spreads=spreads)
    except DataError as error:
        figures = {"n": known, "error": str(error)}
    return {"metric": name, **figures, "failed": len(scores) - known}


def _without_bootstrap(pair: Comparison) -> Comparison:
    nan = math.nan
    return dataclasses.replace(pair, low=nan, high=nan, p_bootstrap=nan, p_bootstrap_holm=nan)


def _drawn(groups: Sequence[str], known: Sequence[int]) -> list[str] | None:
    """Return the groups of the known images; None where all are in one."""
    chosen = [groups[index] for index in known]
    return chosen if len(set(chosen)) > 1 else None
