"""How to cite a metric: one line for a paper's section on methods, and the BibTeX entry of the method."""

import re
from collections.abc import Mapping
from typing import Any

from iqametrics.fingerprint import Fingerprint
from iqametrics.registry import MetricInfo, metric_spec

_SHOWN_DIGITS = 12


def methods_line(info: MetricInfo) -> str:
    """Write one line for the section on methods: what was computed with which weights, version and preprocessing."""
    made = info.fingerprint
    package = made.package if made.package == "iqametrics" else f"{made.package} through iqametrics"
    paper = metric_spec(info.name).paper
    details = [f"version {made.version}", *_weights(made), *_sizing(made.preprocessing), f"fingerprint {made}"]
    return f"Scores were computed with {info.full_name} [{_key(info)}: {paper}] in {package} ({'; '.join(details)})."


def bibtex(info: MetricInfo) -> str:
    """Give the BibTeX entry of the method, that which it declares or one made of the paper's title and address."""
    declared = metric_spec(info.name).bibtex
    if declared:
        return declared
    year = re.search(r"\b(?:19|20)\d\d\b", info.paper)
    fields = {"title": info.paper, "year": year[0] if year else "", "url": info.paper_url}
    lines = [f"  {name} = {{{_escaped(value)}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{_key(info)},", *lines, "}"])


def _key(info: MetricInfo) -> str:
    declared = re.match(r"@\w+\{([^,\s]+),", metric_spec(info.name).bibtex)
    return declared[1] if declared else re.sub(r"\W+", "-", info.name).strip("-")


def _weights(made: Fingerprint) -> list[str]:
    return [] if made.weights is None else [f"checkpoint SHA-256 {made.weights[:_SHOWN_DIGITS]}"]


def _sizing(values: Mapping[str, Any] | None) -> list[str]:
    """Say in words how pictures are brought to size; nothing where that is the package's own affair."""
    if values is None or values == {"min_side": 1, "max_side": None}:
        return []
    parts = []
    if values.get("short_side") is not None:
        parts.append(f"shorter side scaled to {values['short_side']} px")
    else:
        parts.append(f"shorter side at least {values['min_side']} px")
    if values.get("max_side") is not None:
        parts.append(f"longer side at most {values['max_side']} px")
    return [", ".join(parts)]


def _escaped(text: str) -> str:
    """Keep braces balanced and signs of TeX harmless in a title that is no TeX."""
    return re.sub(r"[{}\\]", "", text).replace("&", r"\&").replace("%", r"\%")
