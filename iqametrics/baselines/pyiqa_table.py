"""The metrics of pyiqa, read from the installed package's own file, without importing pyiqa; no torch.

pyiqa keeps names, modes, directions and ranges in one Python file that holds a literal. It is parsed, not run or
copied: pyiqa's licence forbids commercial use, and its list grows with each version.
"""

import ast
import importlib.util
from math import inf
from pathlib import Path
from typing import Any

from iqametrics.errors import MissingExtraError
from iqametrics.spec import MetricSpec

CONFIG_FILE = "default_model_configs.py"
_CONFIG_NAME = "DEFAULT_CONFIGS"

REFUSED: dict[str, str] = {
    **dict.fromkeys(("fid", "sfid", "fid_dinov2"), "compares two sets of images, so no image has a score"),
    "inception_score": "scores a set of images, so no image has a score",
    "clipscore": "compares an image with a text, which the interface here has no place for",
    "fgresq_pair": "says which of two images is better, with three numbers",
}
"""Names of pyiqa that cannot be metrics of ours, and why."""

NOT_DIFFERENTIABLE: frozenset[str] = frozenset({"entropy", "piqe"})
"""Metrics of pyiqa 0.1.16 without a gradient, as measured; pyiqa itself does not say.

Of those that run without fetched weights, all others gave a finite one, not zero everywhere.
"""


def pyiqa_specs() -> dict[str, MetricSpec]:
    """Return the constants of pyiqa's metrics, by the name after the slash.

    The ranges are pyiqa's, which calls them rough estimates; an open side is infinite here.

    Raises:
        MissingExtraError: If the installed version of pyiqa keeps its list in another form.
    """
    return {
        name: MetricSpec(
            name=f"pyiqa/{name}",
            mode="fr" if config["metric_mode"] == "FR" else "nr",
            higher_is_better=not config.get("lower_better", False),
            score_range=parse_range(str(config.get("score_range", ""))),
            range_is_bound=False,
            differentiable=name not in NOT_DIFFERENTIABLE,
            paper=f"{name} as pyiqa computes it (no commercial use); its model card names the paper",
            paper_url="https://iqa-pytorch.readthedocs.io/en/latest/",
            factory="iqametrics.baselines.adapter:PyiqaMetric",
        )
        for name, config in read_configs().items()
        if name not in REFUSED
    }


def read_configs() -> dict[str, dict[str, Any]]:
    """Read the installed pyiqa's table: the settings of each metric by name.

    Raises:
        MissingExtraError: If there is none, or it has not the form of pyiqa 0.1.13 to 0.1.16.
    """
    found = importlib.util.find_spec("pyiqa")
    folders = list(found.submodule_search_locations or ()) if found else []
    for path in (Path(folder) / CONFIG_FILE for folder in folders):
        if path.is_file() and (configs := parse_configs(path.read_text(encoding="utf-8"))):
            return configs
    raise MissingExtraError(
        f"the installed pyiqa has no {CONFIG_FILE} that can be read; install a version that was tried: "
        'pip install "pyiqa>=0.1.13,<0.2"'
    )


def parse_configs(source: str) -> dict[str, dict[str, Any]]:
    """Read the literal that is assigned to `DEFAULT_CONFIGS` in a Python source, without running it.

    Args:
        source: The file's text.

    Returns:
        The entries that state a mode; empty where there is no such literal.

    Examples:
        >>> parse_configs("DEFAULT_CONFIGS = OrderedDict({'psnr': {'metric_mode': 'FR'}, 'x': {}})")
        {'psnr': {'metric_mode': 'FR'}}
    """
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign) or not any(
            isinstance(target, ast.Name) and target.id == _CONFIG_NAME for target in node.targets
        ):
            continue
        value = node.value.args[0] if isinstance(node.value, ast.Call) and node.value.args else node.value
        try:
            configs = ast.literal_eval(value)
        except ValueError:
            return {}
        return {name: config for name, config in configs.items() if config.get("metric_mode") in ("FR", "NR")}
    return {}


def parse_range(text: str) -> tuple[float, float]:
    """Read a range as pyiqa writes it: two numbers, each with or without "~" for "about", or "~" alone for open.

    Args:
        text: E.g. "0, 1", "~0, ~100" or "0, ~".

    Returns:
        Low and high; infinite where the side is open or the text says something else.

    Examples:
        >>> parse_range("~0, ~100"), parse_range("0, ~"), parse_range("a: 0, 1; b: 0, 2")
        ((0.0, 100.0), (0.0, inf), (-inf, inf))
    """
    sides = [side.strip().lstrip("~") for side in text.split(",")]
    if len(sides) != 2:
        return -inf, inf
    try:
        low, high = (float(side) if side else None for side in sides)
    except ValueError:
        return -inf, inf
    return -inf if low is None else low, inf if high is None else high
