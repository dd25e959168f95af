"""One HTML file of a template, our own styles and scripts, and data; it asks for nothing but its pictures."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from iqametrics.common.markup import html_text

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("core", "view", "list", "charts", "panels", "meaning", "stage", "viewer", "main")


def interactive_page(title: str, data: dict[str, Any]) -> str:
    """Write the page of scores.

    Args:
        title: Title of the page.
        data: What the scripts show, see `iqametrics.report.data`.
    """
    scripts = [_asset(f"{name}.js") for name in _SCRIPTS]
    content = f'{_asset("report.html")}\n<script type="application/json" id="data">{script_json(data)}</script>'
    return static_page(title, content, ("house.css", "report.css"), "\n".join(scripts))


def script_json(data: Any) -> str:
    r"""Write JSON so that nothing in it can end the script element that holds it, or begin another.

    Examples:
        >>> script_json({"image": "</script><b>"})
        '{"image":"\\u003c/script\\u003e\\u003cb\\u003e"}'
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def static_page(title: str, content: str, styles: Sequence[str], script: str = "") -> str:
    """Write a page in the house style.

    Args:
        title: Title of the page, as text.
        content: Its body, as HTML.
        styles: Names of the sheets in it.
        script: Its script.
    """
    # One function around all scripts: their names are no names of the page.
    code = f'"use strict";\n(() => {{\n{script}\n}})();\n' if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
    return Template(_asset("page.html")).substitute(
        title=html_text(title),
        styles="\n".join(_asset(name) for name in styles),
        allowed=f"'sha256-{digest}'" if code else "'none'",
        content=content,
        script=f"<script>{code}</script>" if code else "",
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
