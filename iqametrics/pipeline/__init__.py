"""Scoring as a part of somebody else's pipeline: no framework, no files, no command line.

from iqametrics.pipeline import BatchScorer

scorer = BatchScorer("bpclip-nr.lite")
for scored in scorer([png_bytes, array, "photo.jpg"]):
    print(scored.score, scored.error, scored.fingerprint)
"""

from iqametrics.pipeline.scorer import BatchScorer, Picture, Scored

__all__ = ["BatchScorer", "Picture", "Scored"]
