"""Docstrings are written in Markdown; autodoc reads reStructuredText.

Code between backticks becomes a link where it names something that the site documents, and code otherwise. An indented
block after a paragraph is code, as in Markdown. What means something in reStructuredText only is escaped.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_SPECIAL = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Note|Example)s?:$")
_NAME = re.compile(r"[A-Za-z_][\w.]*(\(\))?")


def to_rst(lines: list[str]) -> list[str]:
    """Turn the lines of a docstring into reStructuredText with Google's sections."""
    return list(_paragraphs(lines))


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Go through the lines: a block that is indented deeper than the text above it, after an empty line, is code."""
    base, code, after_blank = 0, None, True
    text: list[str] = []
    for line in [*lines, ""]:
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            if text:
                yield from _inline(text)
                text = []
            yield ""
            after_blank = True
            continue
        if code is not None and indent >= code:
            yield line
            continue
        code = None
        if after_blank and indent >= base + 4 and not line.lstrip().startswith((">>>", "- ")):
            yield " " * base + "::"
            yield ""
            yield line
            code = indent
            continue
        base = indent + 4 if _SECTION.match(line.strip()) else _base(base, indent, line)
        after_blank = False
        text.append(line)


def _base(base: int, indent: int, line: str) -> int:
    """Return the indentation of running text: continued items are part of it."""
    return base if base < indent < base + 4 or (indent >= base + 4) else indent


def _inline(lines: list[str]) -> list[str]:
    """Mark code, and escape what is no mark in Markdown, in a paragraph."""
    if lines[0].lstrip().startswith(">>>"):
        return lines
    text = "\n".join(lines)
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts += [_SPECIAL.sub(r"\\\1", text[end : found.start()]), _code(" ".join(found[2].split()))]
        end = found.end()
    return "".join([*parts, _SPECIAL.sub(r"\\\1", text[end:])]).split("\n")


def _code(code: str) -> str:
    escaped = code.replace("\\", "\\\\").replace("`", "\\`")
    return f"\\ :perhaps:`{escaped}`\\ "


def _role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Inliner, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Make code; `Links` makes a link of it where its text is a name on the site."""
    code = nodes.unescape(text)
    return [nodes.literal(code, code, classes=["code", "perhaps"] if _NAME.fullmatch(code) else ["code"])], []


class Links(SphinxPostTransform):
    """Make links of code that is the name of one thing on the site, and of one only."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Go through one page."""
        domain = self.env.domains.python_domain
        for literal in list(self.document.findall(_is_perhaps)):
            literal["classes"].remove("perhaps")
            found = _full_names(domain).get(literal.astext().removesuffix("()"), [])
            if len(found) == 1:
                entry = domain.objects[found[0]]
                link = make_refnode(
                    self.app.builder, self.env.docname, entry.docname, entry.node_id, literal.deepcopy(), found[0]
                )
                literal.replace_self(link)


def _is_perhaps(node: nodes.Node) -> bool:
    return isinstance(node, nodes.literal) and "perhaps" in node["classes"]


@lru_cache(maxsize=1)
def _full_names(domain: PythonDomain) -> dict[str, list[str]]:
    """Return all names by what may be written for them: `Metric.explain`, `Metric`; small words only as wholes."""
    names: dict[str, list[str]] = {}
    for full, entry in domain.objects.items():
        if entry.aliased:
            continue
        parts = full.split(".")
        for start in range(len(parts)):
            short = ".".join(parts[start:])
            if start == 0 or len(parts) - start > 1 or re.search("[A-Z_]", short):
                names.setdefault(short, []).append(full)
    return names


def _convert(_: Sphinx, what: str, __: str, described: object, ___: object, lines: list[str]) -> None:
    """Convert one docstring; a module's as it is written, since removing indentation could make code of it text."""
    raw = (described.__doc__ or "").split("\n") if what == "module" else lines
    # Napoleon takes the words before a colon in the first line of a variable's docstring for its type.
    lines[:] = ["", *to_rst(raw)] if what in ("attribute", "data", "property") else to_rst(raw)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx, ahead of napoleon."""
    app.add_role("perhaps", _role)
    app.connect("autodoc-process-docstring", _convert, priority=100)
    app.add_post_transform(Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
