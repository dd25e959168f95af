"""Agreement between scores and human opinion: arrays in, numbers out.

    from iqametrics.evaluation import evaluate

    result = evaluate(scores, mos)
    print(result.srcc, result.srcc_low, result.srcc_high)

Importing this package loads NumPy only; SciPy is loaded by the functions that need it.
"""

from iqametrics.evaluation.bootstrap import bootstrap_interval
from iqametrics.evaluation.comparison import (
    Comparison,
    PairedDifference,
    WilliamsTest,
    compare_metrics,
    holm,
    paired_bootstrap,
    williams_test,
)
from iqametrics.evaluation.correlation import krcc, outlier_ratio, plcc, rmse, srcc
from iqametrics.evaluation.logistic import LogisticFit, fit_logistic
from iqametrics.evaluation.summary import DEFINITIONS, Evaluation, evaluate

__all__ = [
    "DEFINITIONS",
    "Comparison",
    "Evaluation",
    "LogisticFit",
    "PairedDifference",
    "WilliamsTest",
    "bootstrap_interval",
    "compare_metrics",
    "evaluate",
    "fit_logistic",
    "holm",
    "krcc",
    "outlier_ratio",
    "paired_bootstrap",
    "plcc",
    "rmse",
    "srcc",
    "williams_test",
]
