"""Metrics of other packages by the names "piq/fsim" and "pyiqa/niqe": what is known of them without torch.

    piq_table.py    the metrics of piq; the table is ours
    pyiqa_table.py  the metrics of pyiqa, read from the installed package's own file
    adapter.py      any of them as a `Metric`
    paper_rows.py   rows of the papers' tables, and which adapter runs them

Neither package is imported until a metric is made. `docs/baselines.md` says what was measured.
"""

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from iqametrics.baselines.piq_table import piq_specs
from iqametrics.baselines.pyiqa_table import REFUSED, pyiqa_specs
from iqametrics.common.suggest import did_you_mean
from iqametrics.errors import MissingExtraError, UnknownMetricError
from iqametrics.spec import MetricSpec, Mode


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package whose metrics we can run.

    Attributes:
        name: The part before the slash, and the name to import.
        licence: Its licence, and what that means for a user.
        install: The command that installs it.
        specs: Returns the constants of its metrics by their names after the slash; called only when it is installed.
        refused: Its names that cannot be metrics of ours, with the reason.
    """

    name: str
    licence: str
    install: str
    specs: Callable[[], dict[str, MetricSpec]]
    refused: dict[str, str]


PACKAGES: dict[str, Package] = {
    "piq": Package(
        name="piq",
        licence="Apache-2.0",
        install='pip install "iqametrics[train]"',
        specs=piq_specs,
        refused=dict.fromkeys(
            ("fid", "kid", "gs", "is", "msid", "pr"), "compares two sets of images, so no image has a score"
        ),
    ),
    "pyiqa": Package(
        name="pyiqa",
        licence="PolyForm Noncommercial 1.0.0 and S-Lab 1.0: no commercial use",
        install='pip install "iqametrics[baselines]"',
        specs=pyiqa_specs,
        refused=REFUSED,
    ),
}


def is_baseline(name: str) -> bool:
    """Tell whether a name means a metric of another package, which it does if it has a slash."""
    return "/" in name


def is_installed(package: str) -> bool:
    """Tell whether a package is there, without importing it."""
    return importlib.util.find_spec(package) is not None


def resolve(name: str) -> MetricSpec:
    """Return the constants of a metric of another package.

    Args:
        name: "piq/..." or "pyiqa/...", as the package writes it.

    Raises:
        UnknownMetricError: If there is no such package or metric.
        MissingExtraError: If the package is not installed.
    """
    before, _, after = name.partition("/")
    if before not in PACKAGES:
        raise UnknownMetricError(
            f"unknown package {before!r} in the metric's name {name!r}; {_close(before, PACKAGES)}known: "
            f"{', '.join(PACKAGES)}"
        )
    package = PACKAGES[before]
    if after in package.refused:
        raise UnknownMetricError(f"{name} cannot be used here: it {package.refused[after]}; call {before} itself")
    specs = _specs_of(before)
    if after not in specs:
        raise UnknownMetricError(
            f"unknown metric {name!r}; {_close(after, specs, before + '/')}`iqametrics list` names all of {before}"
        )
    return specs[after]


def list_baselines(mode: Mode | None = None) -> list[str]:
    """List the metrics of the packages that are installed, sorted.

    Args:
        mode: "fr" or "nr" for those alone.
    """
    specs = [spec for package in PACKAGES if is_installed(package) for spec in _specs_of(package).values()]
    return sorted(spec.name for spec in specs if mode in (None, spec.mode))


def licence(name: str) -> str:
    """Return the licence of the package that a metric is from.

    Args:
        name: "piq/..." or "pyiqa/...".
    """
    return PACKAGES[name.partition("/")[0]].licence


def _specs_of(package: str) -> dict[str, MetricSpec]:
    if not is_installed(package):
        known = PACKAGES[package]
        raise MissingExtraError(
            f"{package} is not installed, so {package}/... cannot be used: {known.install} (licence of {package}: "
            f"{known.licence})"
        )
    return _read(package)


@lru_cache(maxsize=len(PACKAGES))
def _read(package: str) -> dict[str, MetricSpec]:
    return PACKAGES[package].specs()


def _close(name: str, known: Iterable[str], before: str = "") -> str:
    return did_you_mean(name, known, most=3, show=lambda other: repr(before + other), end=" ")
