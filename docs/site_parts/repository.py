"""Links from a page to files and folders of the repository outside docs/: they lead to a page that shows the file.

The same link works where the repository is browsed, and the site needs no address of a repository.
"""

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog", "README.md": "index"}
"""Files outside docs/ that pages of the site show."""
_LARGEST = 200_000


class RepositoryLinks(SphinxTransform):
    """Turn links to the repository's files into links to pages of the site."""

    default_priority = 400

    def apply(self, **_: Any) -> None:
        """Replace the links of one page."""
        page = Path(self.env.doc2path(self.env.docname))
        for node in list(self.document.findall(_is_link)):
            target = _target(page.parent, node["reftarget"].partition("#")[0])
            if target.exists() and target.is_relative_to(ROOT) and not target.is_relative_to(ROOT / "docs"):
                name = target.relative_to(ROOT).as_posix()
                _found(self.env).setdefault(self.env.docname, set()).add(name)
                link = nodes.reference("", "", *node.children, refuri=self._uri(name), internal=True)
                node.replace_self(link)
            elif node.get("refdomain") == "doc" and node.astext().endswith(".md"):
                self._name_by_title(node)

    @staticmethod
    def _name_by_title(node: nodes.Element) -> None:
        """Let a link whose text is a file's name show the title of the page."""
        node["refexplicit"] = False
        node[0].clear()

    def _uri(self, name: str) -> str:
        up = "../" * self.env.docname.count("/")
        return f"{up}{PAGES[name]}.html" if name in PAGES else f"{up}{page_name(name)}.html"


def _is_link(node: nodes.Node) -> bool:
    return isinstance(node, addnodes.download_reference | addnodes.pending_xref) and node.get("reftype") == "myst"


def _target(folder: Path, target: str) -> Path:
    """Return the path that a link leads to; of a Markdown file Sphinx keeps only the name without its ending."""
    path = Path(os.path.normpath(folder / target))
    page = path.with_name(f"{path.name}.md")
    return page if not path.exists() and page.exists() else path


def page_name(name: str) -> str:
    """Return the name of the page that shows a file or folder."""
    return f"files/{name}"


def _found(env: BuildEnvironment) -> dict[str, set[str]]:
    if not hasattr(env, "repository_files"):
        env.repository_files = {}  # type: ignore[attr-defined]
    return env.repository_files  # type: ignore[attr-defined, no-any-return]


def _merge(_: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment) -> None:
    _found(env).update({name: _found(other)[name] for name in docnames if name in _found(other)})


def _purge(_: Sphinx, env: BuildEnvironment, docname: str) -> None:
    _found(env).pop(docname, None)


def _pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Show every file that is linked, and every file of a folder that is."""
    linked = {name for found in _found(app.env).values() for name in found} - set(PAGES)
    inside = {inner for folder in linked for inner in _within(ROOT / folder)}
    for name in sorted(linked | inside):
        path = ROOT / name
        body = _folder(path) if path.is_dir() else _file(path)
        yield page_name(name), {"title": name, "body": f"<h1>{escape(name)}</h1>{body}", "toc": ""}, "page.html"


def _within(path: Path) -> set[str]:
    if not path.is_dir():
        return set()
    return {inner.relative_to(ROOT).as_posix() for inner in path.rglob("*") if _is_shown(inner)}


def _is_shown(path: Path) -> bool:
    hidden = any(part.startswith(("__pycache__", ".")) for part in path.parts)
    return path.is_file() and not hidden and path.suffix not in (".pyc", ".safetensors")


def _folder(path: Path) -> str:
    inner = sorted(found.relative_to(path).as_posix() for found in path.rglob("*") if _is_shown(found))
    links = ((escape(f"{path.name}/{name}.html"), escape(name)) for name in inner)
    items = (f'<li><a href="{address}"><code>{name}</code></a></li>' for address, name in links)
    return f"<p>A folder of the repository.</p><ul>{''.join(items)}</ul>"


def _file(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        return f"<p>A file of {path.stat().st_size / 1e6:.1f} MB in the repository, too long to be shown here.</p>"
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    code = highlight(path.read_text("utf-8"), lexer, HtmlFormatter())
    return f"<p>A file of the repository.</p>{code}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_transform(RepositoryLinks)
    app.connect("env-merge-info", _merge)
    app.connect("env-purge-doc", _purge)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
