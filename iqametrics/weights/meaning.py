"""What a score of a checkpoint means, by pictures that people have scored; no torch.

`meaning.json` stands beside the manifest and is written by `weights/make_meaning.py`. A checkpoint is known by its
SHA-256 there, so a meaning never outlives the file that it was measured on.

Source of the probability: Thurstone, "A law of comparative judgment", Psychological Review 34, 1927 (case V).
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import erf, isfinite
from pathlib import Path

from iqametrics.common.fields import read_fields
from iqametrics.errors import InputError, WeightsError

_FILE = "meaning.json"


@dataclass(frozen=True, kw_only=True)
class ScoreMeaning:
    """What a score means, by a set of pictures that the checkpoint was not trained on and that people have scored.

    Attributes:
        checkpoint: Name of the checkpoint with its tag.
        sha256: Of its file.
        pictures: What the set is, in words.
        n: Number of pictures in it.
        quantiles: Scores of the set at equal steps of the share from 0 to 1, ascending.
        spread: Standard deviation of what a score leaves open, in units of the score: of two pictures with scores a
            and b, people's mean score of the first is the higher with probability Phi((a - b) / (sqrt(2) spread)),
            where higher scores are better.
        pairs: Number of pairs that the spread was fitted to.
        higher_is_better: Direction of the score.
        source: The command and the commit that measured it.
    """

    checkpoint: str
    sha256: str
    pictures: str
    n: int
    quantiles: tuple[float, ...]
    spread: float
    pairs: int
    higher_is_better: bool = True
    source: str = ""

    def beats(self, score: float) -> float:
        """Return the share of the set whose scores are worse, in [0, 1]; half of those that are equal count.

        Raises:
            InputError: If the score is not a finite number.
        """
        _check(score)
        below = (_share(self.quantiles, score, first=True) + _share(self.quantiles, score, first=False)) / 2
        return below if self.higher_is_better else 1 - below

    def preference(self, score: float, other: float) -> float:
        """Return the probability, in (0, 1), that people's mean score of one picture is above that of another.

        It is measured on photographs of unlike content, so it also holds what people like of a subject. It says
        nothing of a single person, whose opinion varies more.

        Args:
            score: Score of the one picture.
            other: Score of the other, by the same checkpoint.

        Raises:
            InputError: If a score is not a finite number.
        """
        _check(score)
        _check(other)
        gain = score - other if self.higher_is_better else other - score
        # Phi(x) = (1 + erf(x / sqrt(2))) / 2, and both roots of two make a half.
        return (1 + erf(gain / (2 * self.spread))) / 2

    def text(self, score: float) -> str:
        """Say in words what a score means.

        Raises:
            InputError: If the score is not a finite number.
        """
        return f"better than {self.beats(score):.0%} of {self.pictures}"


def find_meaning(sha256: str, folder: Path) -> ScoreMeaning | None:
    """Find what scores of the checkpoint with this digest mean; None where nobody has measured it.

    Args:
        sha256: Of the checkpoint's file.
        folder: Of the manifest.

    Raises:
        WeightsError: If the file of meanings is damaged.
    """
    return _read(folder).get(sha256)


@lru_cache(maxsize=8)
def _read(folder: Path) -> dict[str, ScoreMeaning]:
    path = folder / _FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        read = [read_fields(ScoreMeaning, each, "meaning", error=ValueError, top=True) for each in content]
        for meaning in read:
            if len(meaning.quantiles) < 2 or list(meaning.quantiles) != sorted(meaning.quantiles):
                raise ValueError(f"the quantiles of {meaning.checkpoint} do not ascend")
            if not meaning.spread > 0:
                raise ValueError(f"the spread of {meaning.checkpoint} is not above 0")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: is not a readable file of meanings ({error}); reinstall iqametrics") from error
    return {meaning.sha256: meaning for meaning in read}


def _share(quantiles: Sequence[float], score: float, *, first: bool) -> float:
    """Return the share below a score, between quantiles in proportion; of a run of equal ones at its first or last."""
    steps = len(quantiles) - 1
    if score < quantiles[0] or score > quantiles[-1]:
        return float(score > quantiles[-1])
    at = bisect_left(quantiles, score) if first else bisect_right(quantiles, score) - 1
    if quantiles[at] == score:
        return at / steps
    low = bisect_right(quantiles, score) - 1
    return (low + (score - quantiles[low]) / (quantiles[low + 1] - quantiles[low])) / steps


def _check(score: float) -> None:
    if not isfinite(score):
        raise InputError(f"a score of {score} means nothing; give a finite number")
