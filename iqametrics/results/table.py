"""Many results in one order: by images, and the best first."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from iqametrics.errors import DataError
from iqametrics.results.record import read_record

_FIGURES = ("n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "krcc")
COLUMNS = (
    *("data", "labels", "metric", *_FIGURES),
    *("trained", "paper_srcc", "fingerprint", "commit", "date", "file"),
)


def result_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files of results among files and folders, each folder's in the order of their names.

    Raises:
        DataError: If a folder or file is missing, or there is no result at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.glob("*.json"))
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: is neither a file nor a folder; give results that `iqametrics results add` wrote")
    if not found:
        raise DataError("there is no result in these folders; `iqametrics results add` writes one")
    return found


def table_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return a row for each result: images in the order of their titles, and within them the highest |SRCC| first.

    Raises:
        DataError: If a file is no result.
    """
    rows = [_row(read_record(path), path) for path in files]
    return sorted(rows, key=lambda row: (row["data"], -abs(row["srcc"]), row["metric"]))


def _row(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        metric, data, figures, made = (record[name] for name in ("metric", "data", "figures", "made"))
        paper = record["paper"] or {}
        named = metric["metric"] if metric["tag"] is None else f"{metric['metric']}.{metric['tag']}"
        figures = {
            name: figures[name] for name in ("n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "krcc")
        }
        return {
            "data": data["title"],
            "labels": data["labels"],
            "metric": named,
            **{name: figures[name] for name in _FIGURES},
            "trained": record["trained"],
            "paper_srcc": paper.get("srcc"),
            "fingerprint": metric["fingerprint"],
            "commit": made["commit"],
            "date": made["date"][:10],
            "file": path.name,
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is no result (no {error}); see `iqametrics results validate`") from error
